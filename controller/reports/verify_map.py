"""The map of a program: its packages as boxes, from the entry points on the left to what they lean on at the right.

One SVG that needs nothing else. Colour only repeats the words in a box. A large program is shown by its outer packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.reports.html import Markup, tag
from manifests.verify import ModuleRow, VerifyReport

_MAX_BOXES = 48
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _EDGE = 200, 44, 70, 16, 20
_STYLE = """
.vm-box{fill:#e3f5e9;stroke:#116b34;stroke-width:1.2}.vm-bad{fill:#fde8e8;stroke:#a3161c}.vm-warn{fill:#fdf0d5;stroke:#7a4b00}
.vm-line{fill:none;stroke:#8a929c;stroke-opacity:.55}.vm-name{font:600 12px system-ui,sans-serif;fill:#16191d}
.vm-soft{font:11px system-ui,sans-serif;fill:#3d444c}
@media(prefers-color-scheme:dark){.vm-box{fill:#15301f;stroke:#7bd99a}.vm-bad{fill:#3a1a1b;stroke:#ff9b97}
.vm-warn{fill:#33280f;stroke:#f0c36a}.vm-name{fill:#e7eaee}.vm-soft{fill:#c3cad3}.vm-line{stroke:#a3abb5}}
"""


@dataclass(frozen=True)
class _Box:
    name: str
    rows: tuple[ModuleRow, ...]
    x: int = 0
    y: int = 0

    def words(self) -> str:
        """`5 modules`, and those that are not wired or copies."""
        bad = sum(row.status == "NOT WIRED" for row in self.rows)
        copies = sum(row.status == "DUPLICATE" for row in self.rows)
        said = [f"{len(self.rows)} module{'' if len(self.rows) == 1 else 's'}"]
        said += [f"{bad} not wired"] * bool(bad) + [f"{copies} duplicate"] * bool(copies)
        return ", ".join(said)

    def style(self) -> str:
        """The class of its colour."""
        statuses = {row.status for row in self.rows}
        return "vm-box" + (" vm-bad" if "NOT WIRED" in statuses else " vm-warn" if "DUPLICATE" in statuses else "")


def svg(report: VerifyReport) -> str:
    """The map as a file of its own."""
    return str(drawing(report, standalone=True)) + "\n"


def drawing(report: VerifyReport, *, standalone: bool = False) -> Markup:
    """The map as an element of a page; `standalone` makes it a whole SVG document."""
    depth = _depth(report.modules)
    groups: dict[str, list[ModuleRow]] = {}
    for row in report.modules:
        groups.setdefault(_group(row.name, depth), []).append(row)
    edges = {
        (a, b)
        for first, second in report.edges
        if (a := _group(first, depth)) != (b := _group(second, depth)) and a in groups and b in groups
    }
    boxes = _placed({name: _Box(name, tuple(rows)) for name, rows in groups.items()}, edges)
    width = max((box.x for box in boxes.values()), default=0) + _WIDTH + _EDGE
    height = max((box.y for box in boxes.values()), default=0) + _HEIGHT + _EDGE
    lines = [_line(boxes[a], boxes[b]) for a, b in sorted(edges)]
    label = f"Map of {report.root}: {len(report.modules)} modules in {len(boxes)} boxes"
    return tag(
        "svg",
        Markup(f"<style>{_STYLE}</style>"),
        tag("title", label),
        *lines,
        *(_drawn(boxes[name]) for name in sorted(boxes)),
        xmlns="http://www.w3.org/2000/svg" if standalone else None,
        viewBox=f"0 0 {width} {height}",
        width=width if standalone else None,
        height=height if standalone else None,
        role="img",
        aria_label=label,
    )


def _group(name: str, depth: int) -> str:
    return ".".join(name.split(".")[:depth])


def _depth(rows: Sequence[ModuleRow]) -> int:
    """The deepest cut of dotted names that still gives a map of few boxes."""
    depth = 1
    while depth < 8:
        names = {_group(row.name, depth + 1) for row in rows}
        if len(names) > _MAX_BOXES or names == {_group(row.name, depth) for row in rows}:
            return depth
        depth += 1
    return depth


def _placed(boxes: dict[str, _Box], edges: Iterable[tuple[str, str]]) -> dict[str, _Box]:
    """Each box in the column of its distance from what nobody uses, top to bottom by name."""
    after: dict[str, set[str]] = {}
    used: set[str] = set()
    for first, second in edges:
        after.setdefault(first, set()).add(second)
        used.add(second)
    column = dict.fromkeys((name for name in boxes if name not in used), 0)
    todo = sorted(column)
    for name in boxes:  # a circle that nothing leads into starts somewhere too
        if name not in column and not todo:
            column[name] = 0
            todo.append(name)
        while todo:
            here = todo.pop(0)
            for other in sorted(after.get(here, ())):
                if other not in column:
                    column[other] = column[here] + 1
                    todo.append(other)
    filled: dict[int, int] = {}
    placed: dict[str, _Box] = {}
    for name in sorted(boxes, key=lambda each: (column.get(each, 0), each)):
        at = column.get(name, 0)
        row = filled[at] = filled.get(at, -1) + 1
        x, y = _EDGE + at * (_WIDTH + _GAP_X), _EDGE + row * (_HEIGHT + _GAP_Y)
        placed[name] = _Box(name, boxes[name].rows, x, y)
    return placed


def _line(start: _Box, end: _Box) -> Markup:
    x1, y1 = start.x + _WIDTH, start.y + _HEIGHT // 2
    x2, y2 = end.x, end.y + _HEIGHT // 2
    bend = max(40, abs(x2 - x1) // 2)
    return tag("path", d=f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}", class_="vm-line")


def _drawn(box: _Box) -> Markup:
    shown = box.name if len(box.name) <= 28 else "…" + box.name[-27:]
    return tag(
        "g",
        tag("title", f"{box.name}: {box.words()}"),
        tag("rect", x=box.x, y=box.y, width=_WIDTH, height=_HEIGHT, rx=7, class_=box.style()),
        tag("text", shown, x=box.x + 10, y=box.y + 18, class_="vm-name"),
        tag("text", box.words(), x=box.x + 10, y=box.y + 34, class_="vm-soft"),
    )
