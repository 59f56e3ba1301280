"""A verify report in the words of others: JUnit for CI servers, annotations for GitHub, a page for people."""

from __future__ import annotations

import itertools
import re
from xml.sax.saxutils import escape, quoteattr

from controller.reports import verify_map
from controller.reports.html import Markup, document, joined, tag
from manifests.verify import Finding, ModuleRow, VerifyReport

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: VerifyReport) -> str:
    """One test case per module, a failure per finding that fails; entry points that lead nowhere are a suite of their own."""
    failing = _by_module(report)
    lost = failing.pop("", [])
    cases = [_case(row.name, row.path, failing.get(row.name, [])) for row in report.modules]
    cases += [_case(found.path, found.path, [found]) for found in lost]
    failures = sum("<failure" in case for case in cases)
    head = f'<testsuite name="hemma verify" tests="{len(cases)}" failures="{failures}" errors="0" skipped="0">'
    return '<?xml version="1.0" encoding="utf-8"?>\n' + "\n".join([head, *cases, "</testsuite>"]) + "\n"


def _by_module(report: VerifyReport) -> dict[str, list[Finding]]:
    failing = sorted((found for found in report.findings if found.fails), key=lambda each: each.module)
    return {name: list(group) for name, group in itertools.groupby(failing, key=lambda each: each.module)}


def _case(name: str, path: str, findings: list[Finding]) -> str:
    start = f"  <testcase classname={_quoted(path)} name={_quoted(name)} file={_quoted(path)}"
    if not findings:
        return start + "/>"
    failures = "".join(
        f"<failure type={_quoted(each.kind)} message={_quoted(f'{each.kind}: {each.message}')}/>"
        for each in findings[:1]
    )
    more = "\n".join(f"{each.kind}: {each.message}. {each.remedy}" for each in findings)
    return f"{start}>{failures}<system-err>{escape(_NOT_XML.sub('�', more))}</system-err></testcase>"


def _quoted(text: str) -> str:
    return quoteattr(_NOT_XML.sub("�", text))


def github(report: VerifyReport) -> str:
    """Workflow commands: GitHub shows each beside its line. What fails is an error, the rest a notice."""
    lines: list[str] = []
    for found in report.findings:
        level = "error" if found.fails else "notice" if found.kind == "stub-function" else "warning"
        where = (
            f"file={_property(found.path)},line={max(found.line, 1)},title={_property(f'hemma verify: {found.kind}')}"
        )
        text = f"{found.module + ': ' if found.module else ''}{found.message}" + (
            f" (do: {found.remedy})" if found.remedy else ""
        )
        lines.append(f"::{level} {where}::{_message(text)}")
    counts = report.counts
    failing = f"{counts['failing']} {'finding fails' if counts['failing'] == 1 else 'findings fail'} the check"
    lines.append(f"{counts['wired']} of {counts['modules']} modules wired, {failing}")
    return "\n".join(lines) + "\n"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


# --- a page ------------------------------------------------------------------------------------------------------

_CHIPS = {"WIRED": "good", "NOT WIRED": "bad", "DUPLICATE": "warn"}
_WORDS = ("exists", "tested", "wired", "active", "complete")


def page(report: VerifyReport) -> str:
    """The report as one HTML page that needs nothing else: counts, findings, the map, every module."""
    counts = report.counts
    names = ("modules", "wired", "not_wired", "duplicate", *(word for word in _WORDS if word in counts), "failing")
    shown = dict.fromkeys(names)
    tiles = (tag("div", tag("b", counts[n]), tag("span", n.replace("_", " ")), class_="tile") for n in shown)
    since = f" since {report.since}" if report.since else ""
    verdict = tag("span", "ok" if report.ok else "failed", class_=f"chip {'good' if report.ok else 'bad'}")
    body = tag(
        "main",
        tag("h1", f"Wiring of {report.root}{since} ", verdict),
        tag("div", *tiles, class_="tiles"),
        tag("h2", "Findings"),
        _findings(report),
        tag("h2", "Map"),
        tag("div", verify_map.drawing(report), class_="card wide"),
        tag("h2", "Modules"),
        _modules(report),
        tag("h2", "Entry points"),
        tag("ul", *(tag("li", tag("code", _entry(e.module, e.part)), f" {e.told_by}") for e in report.entries)),
    )
    return document(f"Wiring of {report.root}", body)


def _entry(module: str, part: str) -> str:
    return f"{module}:{part}" if part.isidentifier() else module


def _findings(report: VerifyReport) -> Markup:
    shown = [found for found in report.findings if found.kind != "stub-function"]
    if not shown:
        return tag("p", "None.", class_="soft")
    rows = (
        tag(
            "tr",
            tag("td", tag("span", found.kind, class_=f"chip {'bad' if found.fails else ''}")),
            tag("td", tag("code", f"{found.path}:{found.line}" if found.line else found.path)),
            tag("td", found.message, tag("div", found.remedy, class_="soft small") if found.remedy else None),
        )
        for found in shown
    )
    return tag("div", tag("table", *rows), class_="card wide")


def _modules(report: VerifyReport) -> Markup:
    head = tag("tr", *(tag("th", name) for name in ("module", "class", "words", "why")))
    return tag("div", tag("table", head, *(_module(row) for row in report.modules)), class_="card wide")


def _module(row: ModuleRow) -> Markup:
    said = [word for word in _WORDS if getattr(row.words, word)]
    return tag(
        "tr",
        tag("td", tag("code", row.name), class_="name"),
        tag("td", tag("span", row.status, class_=f"chip {_CHIPS[row.status]}")),
        tag("td", joined(" ".join(said))),
        tag("td", row.why, class_="soft"),
    )
