"""Plots as inline SVG: data in, markup out.

A `Plot` says what is drawn: two axes, lines and areas, shaded stretches, level rules, and what is told about a place
that is pointed at. `figure` draws it. It knows nothing of load tests.

A plot is as wide as its column: it has no size of its own, only proportions, with text that can still be read at the
width of a phone. Its colours come from the page's style by class (``tone-…``), so they follow light, dark and print;
lines are told apart by dashes and by the shape of their marks too, not by colour alone. What is pointed at is told by
style alone: no script is needed. Its text can be selected, and a reader that cannot see it gets a title and a
description.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Literal, TypeAlias

import msgspec

from .markup import Markup, join, tag
from .scales import Scale

#: The proportions: the drawing's width and height, in its own units, and the space beside and below the axes.
WIDTH, HEIGHT = 420.0, 236.0
TOP, RIGHT, BOTTOM = 10.0, 18.0, 26.0
#: How wide a character is, at most on average, and how high a line, for ticks and for what is told.
TICK_WIDTH, TICK_HEIGHT = 6.9, 13.0
TIP_WIDTH, TIP_HEIGHT = 6.6, 15.0

#: What a colour stands for; the page's style has one for each.
Tone: TypeAlias = Literal["run", "request", "token", "failed", "asked", "waiting", "plain", "first", "second"]
Point: TypeAlias = tuple[float, float | None]

#: The shapes of marks, by tone: a circle for the others.
_SQUARES: tuple[Tone, ...] = ("request", "second")
_TRIANGLES: tuple[Tone, ...] = ("token",)


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One line or area.

    Attributes:
        name: in the legend.
        points: x and y, ascending in x; a y of None is a gap.
        tone: its colour.
        area: whether what is below it is filled.
        dashed: whether the line is.
        marks: points of the line that have a mark.
        note: what the legend says besides the name.
    """

    name: str
    points: tuple[Point, ...]
    tone: Tone
    area: bool = False
    dashed: bool = False
    marks: tuple[tuple[float, float], ...] = ()
    note: str = ""


class Zone(msgspec.Struct, frozen=True):
    """A stretch of the x axis that is shaded and named."""

    start: float
    end: float
    name: str


class Tip(msgspec.Struct, frozen=True):
    """What is told when something between `start` and `end` is pointed at; the first line is its headline."""

    start: float
    end: float
    lines: tuple[str, ...]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn.

    Attributes:
        name: of its own on the page, in letters and hyphens.
        title: what it shows, with its unit.
        about: what a reader sees in it, for those who cannot see it.
        x, y: the axes.
        series: drawn in this order.
        zones: shaded behind all.
        rules: values of y with a level line, and its words.
        tips: what is told where.
    """

    name: str
    title: str
    about: str
    x: Scale
    y: Scale
    series: tuple[Series, ...]
    zones: tuple[Zone, ...] = ()
    rules: tuple[tuple[float, str], ...] = ()
    tips: tuple[Tip, ...] = ()


def figure(plot: Plot) -> Markup:
    """The plot with its heading and its legend."""
    legend = tag("ul", *map(_entry, plot.series), class_="legend") if plot.series else Markup()
    return tag(
        "figure", tag("figcaption", tag("h3", plot.title), legend), svg(plot), class_="plot", id=f"plot-{plot.name}"
    )


def svg(plot: Plot) -> Markup:
    """The drawing alone, well-formed XML."""
    frame = _Frame(plot)
    return tag(
        "svg",
        tag("title", plot.title, id=f"{plot.name}-title"),
        tag("desc", plot.about, id=f"{plot.name}-about"),
        *(frame.zone(each) for each in plot.zones),
        *frame.axes(),
        *(frame.rule(y, words) for y, words in plot.rules),
        *map(frame.series, plot.series),
        # The empty title keeps the drawing's own from being shown over what is told.
        tag("g", tag("title"), *map(frame.tip, plot.tips), class_="tips") if plot.tips else Markup(),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_labelledby=f"{plot.name}-title {plot.name}-about",
    )


class _Frame:
    """Where the things of one plot lie in its drawing."""

    def __init__(self, plot: Plot) -> None:
        self.plot = plot
        longest = max((len(label) for _, label in plot.y.ticks), default=0)
        self.left = max(longest * TICK_WIDTH + 10, 34.0)
        self.right, self.bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(self, value: float) -> float:
        return round(self.left + (self.right - self.left) * self.plot.x.place(value), 1)

    def y(self, value: float) -> float:
        return round(self.bottom - (self.bottom - TOP) * self.plot.y.place(value), 1)

    def axes(self) -> Iterable[Markup]:
        free = HEIGHT
        for value, label in self.plot.y.ticks:
            y = self.y(value)
            yield tag("line", x1=self.left, x2=self.right, y1=y, y2=y, class_="grid")
            if label and y <= free:
                yield tag("text", label, x=self.left - 6, y=y + 4, class_="tick", text_anchor="end")
                free = y - TICK_HEIGHT
        free = 0.0
        for value, label in self.plot.x.ticks:
            x, half = self.x(value), len(label) * TICK_WIDTH / 2
            if self.plot.x.log and label:
                yield tag("line", x1=x, x2=x, y1=TOP, y2=self.bottom, class_="grid")
            yield tag("line", x1=x, x2=x, y1=self.bottom, y2=self.bottom + (4 if label else 2.5), class_="axis")
            middle = min(x, WIDTH - half - 2)
            if label and middle - half >= free:
                yield tag("text", label, x=middle, y=HEIGHT - 8, class_="tick", text_anchor="middle")
                free = middle + half + 5
        yield tag("line", x1=self.left, x2=self.right, y1=self.bottom, y2=self.bottom, class_="axis")

    def zone(self, zone: Zone) -> Markup:
        start, end = self.x(zone.start), self.x(zone.end)
        if end - start < 1:
            return Markup()
        fits = len(zone.name) * TICK_WIDTH + 6 < end - start
        return join(
            tag("rect", x=start, y=TOP, width=end - start, height=self.bottom - TOP, class_=f"zone zone-{zone.name}"),
            tag("text", zone.name, x=start + 4, y=TOP + 12, class_="zone-name") if fits else "",
        )

    def rule(self, value: float, words: str) -> Markup:
        y = self.y(value)
        return join(
            tag("line", x1=self.left, x2=self.right, y1=y, y2=y, class_="rule"),
            tag("text", words, x=self.right - 4, y=y + 13, class_="zone-name", text_anchor="end"),
        )

    def series(self, series: Series) -> Markup:
        lines, alone = _strokes([(self.x(x), None if y is None else self.y(y)) for x, y in series.points])
        look = f"tone-{series.tone}" + (" dashed" if series.dashed else "")
        drawn: list[Markup] = []
        if series.area and lines:
            base = self.y(0.0)
            areas = " ".join(f"{_path(line)}L{line[-1][0]:g} {base:g}L{line[0][0]:g} {base:g}Z" for line in lines)
            drawn.append(tag("path", d=areas, class_=f"area {look}"))
        if lines:
            drawn.append(tag("path", d=" ".join(map(_path, lines)), class_=f"line {look}"))
        drawn += [tag("circle", cx=x, cy=y, r=2, class_=f"dot {look}") for x, y in alone]
        drawn += [_mark(self.x(x), self.y(y), series.tone) for x, y in series.marks]
        return tag("g", *drawn)

    def tip(self, tip: Tip) -> Markup:
        start, end = self.x(tip.start), self.x(tip.end)
        middle = (start + end) / 2
        width = max(map(len, tip.lines), default=0) * TIP_WIDTH + 16
        x = middle + 8 if middle < (self.left + self.right) / 2 else middle - 8 - width
        x = min(max(x, 0.0), max(WIDTH - width, 0.0))
        numbers = count(1)
        return tag(
            "g",
            tag("rect", x=start, y=TOP, width=max(end - start, 0.5), height=self.bottom - TOP, class_="hit"),
            tag(
                "g",
                tag("line", x1=middle, x2=middle, y1=TOP, y2=self.bottom, class_="rule"),
                tag(
                    "rect", x=x, y=TOP + 2, rx=4, width=width, height=len(tip.lines) * TIP_HEIGHT + 9, class_="tip-box"
                ),
                *(
                    tag(
                        "text",
                        line,
                        x=x + 8,
                        y=TOP + 2 + TIP_HEIGHT * number,
                        class_="tip-line" if number > 1 else "tip-line tip-head",
                    )
                    for line, number in zip(tip.lines, numbers, strict=False)
                ),
                class_="tip",
            ),
            class_="pointed",
        )


def _strokes(
    points: Sequence[tuple[float, float | None]],
) -> tuple[list[list[tuple[float, float]]], list[tuple[float, float]]]:
    """The lines between the gaps, and the points that are no line because they stand alone."""
    lines: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            lines.append([])
        elif not lines[-1] or lines[-1][-1] != (x, y):
            lines[-1].append((x, y))
    return [line for line in lines if len(line) > 1], [line[0] for line in lines if len(line) == 1]


def _path(line: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in line)


def _mark(x: float, y: float, tone: Tone) -> Markup:
    look = f"mark tone-{tone}"
    if tone in _SQUARES:
        return tag("rect", x=x - 3.5, y=y - 3.5, width=7, height=7, class_=look)
    if tone in _TRIANGLES:
        return tag("path", d=f"M{x:g} {y - 4.5:g}L{x + 4.5:g} {y + 3.5:g}L{x - 4.5:g} {y + 3.5:g}Z", class_=look)
    return tag("circle", cx=x, cy=y, r=3.8, class_=look)


def _entry(series: Series) -> Markup:
    """One line of the legend."""
    look = f"tone-{series.tone}" + (" dashed" if series.dashed else "")
    swatch = (
        tag("rect", x=1, y=1, width=22, height=10, class_=f"area {look}")
        if series.area
        else tag("path", d="M1 6L23 6", class_=f"line {look}")
    )
    mark = _mark(12, 6, series.tone) if series.marks else ""
    drawn = tag("svg", swatch, mark, viewBox="0 0 24 12", class_="swatch", aria_hidden="true")
    note = join(" ", tag("b", series.note)) if series.note else ""
    return tag("li", drawn, tag("span", series.name, note))
