"""A chart as inline SVG: text stays text, nothing is drawn by style sheets, so it looks alike on a screen, in print and in a PDF.

Every chart is drawn twice, wide and narrow; the page shows one of them. Colours are those of the house's pages, each with its own kind of line or
shape, so that none is needed to tell things apart. `tests/progress/test_report.py` computes their contrast.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET  # builds, never parses
from collections.abc import Sequence

from attunement.progress.time_axis import TimeAxis

WIDE, NARROW = 720, 344
INK, QUIET, SCORE, TREND, RELIABLE, DANGER, RULE = "#1d2430", "#4a5568", "#1b6f72", "#94500f", "#5b3f8c", "#8f2436", "#5d6878"
BANDS = ("#f8fafc", "#f0f3f7", "#e7ecf2", "#dee5ed", "#d5dde7", "#ccd6e2")
"""From the mildest band of a measure to the most severe."""
TREND_FILL, RELIABLE_FILL, GAP_FILL = "#c98a3d", "#5b3f8c", "#8a94a3"
FONT, SIZE, LETTER = "system-ui, sans-serif", 12.0, 6.6
Point = tuple[float, float]


class Canvas:
    """One SVG of `width` x `height` with the name and the description that stand for it where it is not seen."""

    def __init__(self, name: str, width: int, height: float, title: str, description: str) -> None:
        ids = f"{name}-{width}"
        self.name, self.width = ids, width
        self.root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {width} {height:g}",
                "width": str(width),
                "height": f"{height:g}",
            }
            | {"role": "img", "aria-labelledby": f"{ids}-t {ids}-d", "class": "wide-chart" if width == WIDE else "narrow-chart"},
        )
        self.add("title", {"id": f"{ids}-t"}).text = title
        self.add("desc", {"id": f"{ids}-d"}).text = description

    def add(self, tag: str, attributes: dict[str, str], into: ET.Element | None = None) -> ET.Element:
        return ET.SubElement(self.root if into is None else into, tag, attributes)

    def line(self, x1: float, y1: float, x2: float, y2: float, *, colour: str = RULE, width: float = 1, dash: str = "") -> None:
        self.add(
            "line",
            {"x1": f"{x1:g}", "y1": f"{y1:g}", "x2": f"{x2:g}", "y2": f"{y2:g}", "stroke": colour, "stroke-width": f"{width:g}"}
            | dashed(dash),
        )

    def rect(
        self, box: tuple[float, float, float, float], fill: str, *, opacity: float = 1, edge: str = "", round_: float = 0
    ) -> None:
        """`box` is x, y, width, height."""
        x, y, width, height = box
        stroke = {"stroke": edge, "stroke-width": "1"} if edge else {}
        self.add(
            "rect",
            {
                "x": f"{x:g}",
                "y": f"{y:g}",
                "width": f"{max(0, width):g}",
                "height": f"{max(0, height):g}",
                "fill": fill,
                "rx": f"{round_:g}",
            }
            | {"fill-opacity": f"{opacity:g}"}
            | stroke,
        )

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "start", colour: str = QUIET, bold: bool = False, halo: bool = False
    ) -> None:
        """`halo` lays a white ground under text that stands on lines."""
        if halo:
            wide = LETTER * len(text) + 4
            left = {"start": x - 2, "middle": x - wide / 2, "end": x - wide + 2}[anchor]
            self.rect((left, y - 11, wide, 14.5), "#ffffff", opacity=0.88)
        weight = {"font-weight": "700"} if bold else {}
        place = {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor, "fill": colour}
        self.add("text", place | {"font-family": FONT, "font-size": f"{SIZE:g}"} | weight).text = text

    def path(
        self, points: Sequence[Point], *, colour: str, width: float = 2, dash: str = "", into: ET.Element | None = None
    ) -> None:
        if len(points) > 1:
            how = {"fill": "none", "stroke": colour, "stroke-width": f"{width:g}", "stroke-linejoin": "round"}
            self.add("path", {"d": _drawn(points)} | how | dashed(dash), into)

    def area(self, points: Sequence[Point], fill: str, opacity: float, into: ET.Element | None = None) -> None:
        self.add("path", {"d": _drawn(points) + "Z", "fill": fill, "fill-opacity": f"{opacity:g}"}, into)

    def dots(self, points: Sequence[Point], radius: float, colour: str = SCORE, *, hollow: bool = False) -> None:
        paint = {
            "fill": "#ffffff" if hollow else colour,
            "stroke": colour if hollow else "#ffffff",
            "stroke-width": "1.6" if hollow else "0.8" if radius > 2 else "0",
        }
        for x, y in points:
            self.add("circle", {"cx": f"{x:g}", "cy": f"{y:g}", "r": f"{radius:g}"} | paint)

    def clip(self, box: tuple[float, float, float, float]) -> ET.Element:
        """A group whose content shows within `box` only."""
        clip = self.add("clipPath", {"id": f"{self.name}-c"}, self.add("defs", {}))
        x, y, width, height = box
        self.add("rect", {"x": f"{x:g}", "y": f"{y:g}", "width": f"{width:g}", "height": f"{height:g}"}, clip)
        return self.add("g", {"clip-path": f"url(#{self.name}-c)"})

    def time_axis(self, axis: TimeAxis, y: float) -> None:
        """The line of time at `y`, its ticks and their labels in two lines under it (28 high)."""
        self.line(axis.left, y, axis.right, y, colour=RULE)
        for x, label, year in axis.ticks(52):
            self.line(x, y, x, y + 4, colour=RULE)
            anchor = "middle" if axis.left + 16 <= x <= axis.right - 16 else "start" if x < axis.left + 16 else "end"
            self.text(x, y + 15, label, anchor=anchor)
            if year:
                self.text(x, y + 28, year, anchor=anchor)

    def markup(self) -> str:
        """As it stands in the page; all text and all attributes are escaped by the serialiser."""
        return ET.tostring(self.root, encoding="unicode")


def dashed(dash: str) -> dict[str, str]:
    return {"stroke-dasharray": dash} if dash else {}


def _drawn(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
