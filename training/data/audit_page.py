"""The data audit as one page for people: self-contained, nothing is loaded, every value escaped (S5-R12)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Bar = tuple[int, int, int]
_WIDTH, _HEIGHT, _BASE = 640, 190, 150

STYLE = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#556070;--line:#d8dde5;--ground:#fbfcfe;--card:#fff;--ok:#1a7f4b;
--no:#b3261e;--mark:#9a5b00;--bar:#4a78c9;--cut:#d3706a}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#a3adbb;--line:#343b47;--ground:#14171c;--card:#1c2027;
--ok:#5bd394;--no:#ff8a80;--mark:#f0b45b;--bar:#6f9ae8;--cut:#e58a84}}
*{box-sizing:border-box}body{margin:0;overflow-wrap:anywhere;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:70rem;margin:0 auto;padding:1.2rem}h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.1rem;margin:2rem 0 .6rem}
.verdict{display:inline-block;padding:.1rem .7rem;border-radius:1rem;border:1px solid currentColor;font-weight:600}
.ok{color:var(--ok)}.no{color:var(--no)}.soft{color:var(--soft)}.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;background:var(--card)}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:break-word}
th{color:var(--soft);font-weight:600;overflow-wrap:normal}td.n{text-align:right;font-variant-numeric:tabular-nums}
td.n,td.ok,td.no{white-space:nowrap}td.name{font-weight:600;min-width:9rem;overflow-wrap:anywhere}td.long{overflow-wrap:anywhere}
pre{background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.7rem;overflow-x:auto;
white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px;max-height:24rem}
svg{width:100%;min-width:30rem;height:auto;background:var(--card);border:1px solid var(--line);border-radius:.4rem}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}.bar{fill:var(--bar)}.cut{fill:var(--cut)}
.limit{stroke:var(--mark);stroke-width:2;stroke-dasharray:5 4}svg .limit-word{fill:var(--mark)}
@media(max-width:40rem){table,tbody,tr,td{display:block}thead{display:none}tr{border-bottom:1px solid var(--line);padding:.5rem 0}
td{border:0;padding:.1rem .6rem}td.n{text-align:left}
td[data-of]::before{content:attr(data-of) " ";color:var(--soft)}td:empty{display:none}}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.8rem 0}dt{color:var(--soft)}dd{margin:0}
""".replace("\n", "")


def page(result: Mapping[str, Any]) -> str:
    """The page for the dict that the audit returns."""
    body = "".join(
        (
            _head(result),
            _section("Checks", _checks(result["checks"])),
            _section("Tokens in a row", _tokens(result)),
            _section("Columns", _columns(result["columns"])),
            _section("What was read", _sources(result["sources"])),
            _section("Worth knowing", _list(result["notes"])),
            _section("Rows as they are", _samples(result["samples"])),
            _section("Rows as the trainer gets them", _samples(result["rendered_samples"])),
        )
    )
    data = json.dumps(result, default=str).replace("<", "\\u003c")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Data audit</title><style>{STYLE}</style><main>{body}</main>"
        f"<script type='application/json' id=data>{data}</script></html>"
    )


def _head(result: Mapping[str, Any]) -> str:
    word = "ok" if result["passed"] else "no"
    said = "may be trained on" if result["passed"] else "must not be trained on as it is"
    facts: dict[str, Any] = {
        "method": result["method"],
        "format": result["verdict"],
        "mapping": "; ".join(f"{target} ← {source}" for target, source in result["mapping"].items()) or "none needed",
        "rows": ", ".join(f"{count:,} {split}" for split, count in result["splits"].items()),
        "length": f"{result['sequence_length']} tokens, packing {result['packing']}",
    }
    lines = "".join(f"<dt>{escape(name)}<dd>{escape(str(value))}" for name, value in facts.items())
    names = ", ".join(source["name"] for source in result["sources"])
    return f"<h1>{escape(names)}</h1><p><span class='verdict {word}'>{said}</span></p><dl>{lines}</dl>"


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; on a narrow screen its rows stand as blocks, in which a cell says what it is of (`data-of`)."""
    head = "".join(f"<th>{escape(each)}" for each in headings)
    body = "".join("<tr>" + "".join(row) for row in rows)
    return f"<div class=wide><table><thead><tr>{head}<tbody>{body}</table></div>"


def _cell(value: object, kind: str = "", of: str = "") -> str:
    marks = (f" class='{kind}'" if kind else "") + (f" data-of='{of}'" if of else "")
    return f"<td{marks}>{escape(str(value))}"


def _number(value: float, of: str) -> str:
    return _cell(f"{value:,}", "n", of)


def _checks(checks: Sequence[Mapping[str, Any]]) -> str:
    rows = (
        (
            _cell("holds" if check["held"] else "does not hold", "ok" if check["held"] else "no"),
            _cell(check["name"], "name"),
            _cell(check["fact"], "long"),
            _cell(check["mend"]),
        )
        for check in sorted(checks, key=lambda each: bool(each["held"]))
    )
    return _table(("", "check", "fact", "what mends it"), rows)


def _tokens(result: Mapping[str, Any]) -> str:
    tokens = result["tokens"]
    if not tokens or not tokens["count"]:
        return "<p class=soft>No tokens were counted.</p>"
    words = (
        f"{tokens['total']:,} tokens in {tokens['count']:,} sequences: mean {tokens['mean']:,}, median {tokens['median']:,}, "
        f"99 % up to {tokens['p99']:,}, longest {tokens['largest']:,}. Lost at this length: {tokens['lost']:,} "
        f"({tokens['share_lost']:.2%}). Rows without any loss: {tokens['rows_without_loss']:,}."
    )
    longest = "; ".join(f"{row['place']} ({row['tokens']:,})" for row in result["longest_rows"][:3])
    after = f"<p class=soft>Longest: {escape(longest)}</p>" if longest else ""
    return f"<p>{escape(words)}</p>{histogram(tokens['bars'], result['sequence_length'], 'tokens')}{after}"


def histogram(bars: Sequence[Bar], limit: int | None, unit: str) -> str:
    """An SVG of the bars; those beyond `limit` in another colour, with a line at it. Each bar says its numbers on hover."""
    if not bars:
        return ""
    most, last = max(count for _, _, count in bars) or 1, bars[-1][0] + (bars[0][1] - bars[0][0] + 1)
    step = (_WIDTH - 20) / len(bars)
    drawn = "".join(_bar(at, bar, step, most, limit, unit) for at, bar in enumerate(bars))
    marks = "".join(
        f"<text x={10 + share * (_WIDTH - 20):.0f} y={_BASE + 18} text-anchor={anchor}>{round(share * last):,}{end}</text>"
        for share, anchor, end in (
            (0, "start", ""),
            (0.5, "middle", ""),
            (1, "end", " and more" * (bars[-1][1] > last)),
        )
    )
    line = ""
    if limit is not None and limit < last:
        x = 10 + limit / last * (_WIDTH - 20)
        side, shift = ("end", -6) if x > _WIDTH / 2 else ("start", 6)
        line = (
            f"<line class=limit x1={x:.1f} x2={x:.1f} y1=8 y2={_BASE} />"
            f"<text class=limit-word x={x + shift:.1f} y=20 text-anchor={side}>frozen length {limit:,}</text>"
        )
    label = f"How many rows have how many {unit}"
    return (
        f"<div class=wide><svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img aria-label='{escape(label)}'>{drawn}"
        f"<line x1=10 x2={_WIDTH - 10} y1={_BASE} y2={_BASE} stroke=currentColor stroke-opacity=.4 />{marks}{line}"
        f"<text x={_WIDTH / 2} y={_BASE + 34} text-anchor=middle>{escape(unit)}</text></svg></div>"
    )


def _bar(at: int, bar: Bar, step: float, most: int, limit: int | None, unit: str) -> str:
    low, high, count = bar
    # A single row must still be seen.
    height = max(1.5, count / most * (_BASE - 30)) if count else 0
    kind = "cut" if limit is not None and low >= limit else "bar"
    return (
        f"<rect class={kind} x={10 + at * step:.1f} y={_BASE - height:.1f} width={max(step - 1, 1):.1f} height={height:.1f}>"
        f"<title>{low:,} to {high:,} {escape(unit)}: {count:,} rows</title></rect>"
    )


def _columns(columns: Sequence[Mapping[str, Any]]) -> str:
    rows = (
        (
            _cell(column["name"], "name"),
            _cell(", ".join(f"{kind} {count:,}" for kind, count in column["kinds"].items())),
            _number(column["missing"], "missing"),
            _number(column["empty"], "empty"),
            _cell(_sizes(column), "long"),
        )
        for column in columns
    )
    return _table(("column", "kinds", "missing", "empty", "values"), rows)


def _sizes(column: Mapping[str, Any]) -> str:
    if column.get("classes"):
        shown = ", ".join(f"{name} {count:,}" for name, count in column["classes"][:6])
        return f"{column['class_count']} values: {shown}{', …' if column['class_count'] > 6 else ''}"
    if column.get("range"):
        return "{:,} to {:,}".format(*column["range"])
    sizes = column["sizes"]
    if not sizes["count"]:
        return ""
    return f"length {sizes['smallest']:,} to {sizes['largest']:,}, median {sizes['median']:,}, {sizes['outliers']:,} outliers"


def _sources(sources: Sequence[Mapping[str, Any]]) -> str:
    rows = (
        (
            _cell(source["split"]),
            _cell(each["file"], "long"),
            _number(each["rows"], "rows"),
            _cell(each["cause"] or "", "long"),
        )
        for source in sources
        for each in source["files"][:200]
    )
    return _table(("split", "file", "rows", "not read"), rows)


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}" for line in lines) + "</ul>" if lines else ""


def _samples(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<pre>{escape(json.dumps(row, indent=1, ensure_ascii=False, default=str))}</pre>" for row in rows)
