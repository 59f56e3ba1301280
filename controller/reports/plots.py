"""Curves as inline SVG: drawn from numbers alone, coloured by the page's own style, readable without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence

from controller.reports.html import Markup, joined, tag

WIDTH, HEIGHT = 720, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 30
MOST_POINTS = 400
MOST = 1e100

Points = Sequence[tuple[float, float]]


def curves(series: Sequence[tuple[str, Points]], *, label: str) -> Markup:
    """At most two series of (step, value) over one pair of axes, with a key; text in place of a plot without numbers."""
    # What no axis can hold (NaN, infinities, the ends of the number line) is left out.
    whole = [(name, [each for each in points if all(abs(part) < MOST for part in each)]) for name, points in series]
    shown = [(name, _thinned(points)) for name, points in whole if points]
    if not shown:
        return tag("p", "No numbers yet.", class_="soft")
    xs = [x for _, points in shown for x, _ in points]
    ys = [y for _, points in shown for _, y in points]
    scale = _Scale(min(xs), max(xs), *_padded(min(ys), max(ys)))
    lines = [_line(scale, points, number) for number, (_, points) in enumerate(shown, 1)]
    key = [
        tag("span", tag("i", class_=f"line-{number}"), f"{name}: {short(points[0][1])} to {short(points[-1][1])}")
        for number, (name, points) in enumerate(shown, 1)
    ]
    drawn = tag("svg", _axes(scale), *lines, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
    return joined(tag("div", *key, class_="key"), drawn)


def short(value: float) -> str:
    """A number in as many digits as say something."""
    if not math.isfinite(value):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


class _Scale:
    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self.left, self.right, self.low, self.high = left, right, low, high

    def x(self, step: float) -> float:
        span = (self.right - self.left) or 1.0
        return round(LEFT + (step - self.left) / span * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 1)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _line(scale: _Scale, points: Points, number: int) -> Markup:
    if len(points) == 1:
        (x, y) = points[0]
        return tag("circle", cx=scale.x(x), cy=scale.y(y), r=3.5, class_=f"dot-{number}")
    drawn = " ".join(f"{scale.x(x)},{scale.y(y)}" for x, y in points)
    return tag("polyline", points=drawn, class_=f"line-{number}")


def _axes(scale: _Scale) -> Markup:
    """Lines across at round values, steps below."""
    parts: list[Markup] = []
    for value in ticks(scale.low, scale.high, 5):
        y = scale.y(value)
        parts += [
            tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid-line"),
            tag("text", short(value), x=LEFT - 8, y=y + 4, text_anchor="end"),
        ]
    steps = ticks(scale.left, scale.right, 6, is_whole=True) or [scale.left]
    for value in steps:
        at = scale.x(value)
        anchor = "start" if at < LEFT + 12 else "end" if at > WIDTH - RIGHT - 24 else "middle"
        parts.append(tag("text", f"{value:,.0f}", x=at, y=HEIGHT - 10, text_anchor=anchor))
    parts.append(tag("text", "step", x=LEFT - 8, y=HEIGHT - 10, text_anchor="end"))
    return joined(*parts)


def ticks(low: float, high: float, count: int, *, is_whole: bool = False) -> list[float]:
    """Round values between `low` and `high`, about `count` of them."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    size = 10.0 ** math.floor(math.log10(span / count))
    size *= next(each for each in (1, 2, 5, 10) if each * size * count >= span * 0.999 or each == 10)
    if is_whole:
        size = max(1.0, size)
    first = math.ceil(low / size - 1e-9)
    last = math.floor(high / size + 1e-9)
    return [number * size for number in range(first, last + 1)]


def _thinned(points: Points) -> Points:
    """At most MOST_POINTS of them: of each stretch its lowest and its highest, so that no spike is lost."""
    if len(points) <= MOST_POINTS:
        return points
    width = len(points) / (MOST_POINTS // 2)
    kept: list[tuple[float, float]] = []
    for number in range(MOST_POINTS // 2):
        part = points[int(number * width) : int((number + 1) * width)]
        low, high = min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])
        kept += sorted({low, high})
    return [points[0], *kept, points[-1]]
