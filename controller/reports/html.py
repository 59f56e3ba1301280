"""HTML by calls: every text is escaped unless it was made here, and a page needs nothing from anywhere else.

`tag("p", name, class_="x")` takes text as text, whatever stands in it (hostile names, bytes outside UTF-8).
"""

from __future__ import annotations

import html
import json

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_VOID = frozenset({"meta", "br", "hr", "line", "path", "rect", "circle", "polyline"})

# One column of text, cards with a thin edge; colours have 4.5:1 and more on their ground in both modes.
STYLE = """
:root{color-scheme:light dark;--ground:#f6f7f9;--card:#fff;--ink:#16191d;--soft:#565d66;--edge:#dfe3e8;--link:#0b5cad;
--good:#116b34;--good-ground:#e3f5e9;--warn:#7a4b00;--warn-ground:#fdf0d5;--bad:#a3161c;--bad-ground:#fde8e8;--idle-ground:#eceff2;
--line-1:#0b66c3;--line-2:#b4480c}
@media(prefers-color-scheme:dark){:root{--ground:#111418;--card:#191d22;--ink:#e7eaee;--soft:#a3abb5;--edge:#2d333b;
--link:#7db8ff;--good:#7bd99a;--good-ground:#15301f;--warn:#f0c36a;--warn-ground:#33280f;--bad:#ff9b97;--bad-ground:#3a1a1b;
--idle-ground:#252b32;--line-1:#6fb3ff;--line-2:#f2a36b}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
overflow-wrap:anywhere;-webkit-text-size-adjust:100%}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .25rem;letter-spacing:-.01em}
h2{font-size:1.05rem;margin:2.25rem 0 .6rem}
p{margin:.4rem 0}a{color:var(--link)}
code,.mono{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.soft{color:var(--soft)}.small{font-size:.86rem}
.card{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:1rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin-top:1.25rem}
.tile{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:.7rem .9rem}
.tile b{display:block;font-size:1.3rem;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.8rem}
.chip{display:inline-block;border-radius:99px;padding:.05rem .6rem;font-size:.8rem;font-weight:600;white-space:nowrap;
background:var(--idle-ground);color:var(--soft)}
.chip.good{background:var(--good-ground);color:var(--good)}
.chip.warn{background:var(--warn-ground);color:var(--warn)}
.chip.bad{background:var(--bad-ground);color:var(--bad)}
.good-text{color:var(--good)}.bad-text{color:var(--bad)}
.wide{overflow-x:auto}
.name{white-space:nowrap}
table{border-collapse:collapse;width:100%}
th{text-align:left;font-weight:600;color:var(--soft);font-size:.8rem}
th,td{padding:.4rem .75rem .4rem 0;border-bottom:1px solid var(--edge);vertical-align:top}
tr:last-child>td{border-bottom:0}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
details{border-bottom:1px solid var(--edge);padding:.15rem 0}details:last-child{border-bottom:0}
summary{cursor:pointer;display:flex;gap:.75rem;align-items:baseline;padding:.35rem 0;list-style:none}
summary::-webkit-details-marker{display:none}
summary::before{content:"";flex:none;width:.42rem;height:.42rem;border-right:2px solid var(--soft);border-bottom:2px solid var(--soft);
transform:rotate(-45deg);align-self:center}
details[open]>summary::before{transform:rotate(45deg)}
summary .chip{min-width:4.7rem;text-align:center}
summary .grow{flex:1;min-width:0}
.inside{padding:.1rem 0 .7rem 1.15rem}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.3rem 1rem;margin:0}
dt{color:var(--soft)}dd{margin:0;min-width:0}
ul{margin:.3rem 0;padding-left:1.1rem}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
.grid-line{stroke:var(--edge);stroke-width:1}
.line-1,.line-2{fill:none;stroke-width:1.75;stroke-linejoin:round;vector-effect:non-scaling-stroke}.line-1{stroke:var(--line-1)}.line-2{stroke:var(--line-2)}
.dot-1{fill:var(--line-1)}.dot-2{fill:var(--line-2)}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:0 0 .5rem;font-size:.86rem}
.key i{display:inline-block;width:1rem;height:3px;border-radius:2px;margin-right:.4rem;vertical-align:middle}
.key .line-1{background:var(--line-1)}.key .line-2{background:var(--line-2)}
@media(max-width:34rem){main{padding:1rem .75rem 3rem}h1{font-size:1.35rem}dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:.45rem}svg text{font-size:20px}
table{font-size:.86rem}th,td{padding-right:.5rem}.tiles{grid-template-columns:1fr 1fr}.hide-small{display:none}}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
"""


class Markup(str):
    """Text that is HTML already; everything else is escaped when it becomes part of a page."""

    __slots__ = ()


def text(value: object) -> Markup:
    """`value` as text in a page: escaped, and with control and lone surrogate characters as visible escapes."""
    if isinstance(value, Markup):
        return value
    shown = "".join(c if c.isprintable() or c in "\n\t" else _visible(c) for c in str(value))
    return Markup(html.escape(shown, quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """One element. A trailing underscore of an attribute's name is dropped, others become dashes; None leaves it out."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{words}/>")
    return Markup(f"<{name}{words}>{joined(*children)}</{name}>")


def joined(*children: object) -> Markup:
    """These one after the other; None and empty ones are left out."""
    return Markup("".join(text(child) for child in children if child is not None))


def data(value: object, id_: str) -> Markup:
    """JSON in the page for programs; nothing in it can end the element that holds it."""
    raw = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        raw = raw.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{text(id_)}">{raw}</script>')


def document(title: str, *body: object) -> str:
    """A whole page that loads nothing: the content policy forbids it."""
    head = joined(
        Markup('<meta charset="utf-8"/>'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}"/>'),
        Markup('<meta name="referrer" content="no-referrer"/>'),
        Markup('<link rel="icon" href="data:,"/>'),
        tag("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{joined(*body)}</body></html>\n'


def _visible(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
