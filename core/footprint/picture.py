"""Footprints as pictures: SVG text of its own, of rectangles, lines and words. (The light libraries for it are no longer kept up, and what
is kept up weighs more than all it would draw.)"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from pinnace.core.footprint.mappings import Part

WIDTH: Final = 860
_LEAST_BYTES: Final = 20_000
_LEFT, _RIGHT = 70, 190
_COLOURS: Final = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0", "#d7bf5f")
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#333}.title{font-size:15px;font-weight:bold}.small{font-size:11px;fill:#666}"
    ".right{text-anchor:end}.line{stroke:#ddd;stroke-width:1}"
)


class Canvas:
    """Shapes in order; y grows downwards."""

    def __init__(self) -> None:
        self._shapes: list[str] = []
        self.height = 20.0

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        self._shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>')
        self.height = max(self.height, y + 8)

    def box(self, x: float, y: float, width: float, height: float, *, colour: str, title: str = "") -> None:
        inside = f"<title>{escape(title)}</title>" if title else ""
        self._shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{colour}">{inside}</rect>'
        )
        self.height = max(self.height, y + height)

    def area(self, points: Iterable[tuple[float, float]], colour: str) -> None:
        self._shapes.append(f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="{colour}"/>')

    def rule(self, y: float) -> None:
        self._shapes.append(f'<line class="line" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')

    def svg(self) -> str:
        height = self.height + 16
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}">'
            f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(self._shapes)}</svg>\n'
        )


def of_look(found: Mapping[str, Any]) -> str:
    """Of `live.as_json`: a bar for each process outside of pods, cut by part."""
    canvas = Canvas()
    rows = [each for each in found["processes"] if each["group"] != "pods"]
    canvas.text(_LEFT, 26, f"The node: {found['node_pss_bytes'] / 1e6:.1f} MB PSS", "title")
    bars = [(f"{each['name']} ({each['pid']})", {part: sizes["pss_bytes"] for part, sizes in each["parts"].items()}) for each in rows]
    _bars(canvas, 46, bars)
    return canvas.svg()


def of_record(record: Mapping[str, Any]) -> str:
    """Of `sampling.take`: PSS over time for each run, by group; then the processes by part, in the median."""
    canvas = Canvas()
    node, days = record["summary"]["node"]["pss_bytes"], record["summary"]["per_idle_day"]
    canvas.text(
        _LEFT, 26, f"PSS of the node: {node['median'] / 1e6:.1f} MB (p95 {node['p95'] / 1e6:.1f}, max {node['max'] / 1e6:.1f})", "title"
    )
    words = [f"{len(record['runs'])} runs of {record['sample_seconds']:g} s after {record['warm_up_seconds']:g} s"]
    for name, label in (("written_bytes", "written"), ("wire_bytes", "on the wire")):
        if days[name] is not None:
            words.append(f"{days[name]['median'] / 1e6:.2f} MB a day {label}")
    canvas.text(_LEFT, 44, ", ".join(words), "small")
    top = 60.0
    groups = list(dict.fromkeys(group for run in record["runs"] for group in run["series"]["pss_bytes"]))
    most = max((sum(values) for run in record["runs"] for values in zip(*run["series"]["pss_bytes"].values(), strict=True)), default=1)
    for number, run in enumerate(record["runs"], 1):
        _over_time(canvas, top, f"run {number}", run["series"], groups=groups, most=most)
        top += 126
    for place, group in enumerate(groups):
        _key(canvas, 60 + 18 * place, _COLOURS[place % len(_COLOURS)], group)
    bars = [
        (key.partition("/")[2], {part: each["median"] for part, each in process["parts"].items()})
        for key, process in record["summary"]["processes"].items()
        if process["parts"] and not key.startswith(("pods/", "cloud/", "commands/"))
    ]
    canvas.text(_LEFT, top + 14, "By part", "title")
    _bars(canvas, top + 30, bars)
    return canvas.svg()


def _over_time(canvas: Canvas, top: float, title: str, series: Mapping[str, Any], *, groups: Sequence[str], most: float) -> None:
    height, seconds = 100.0, series["seconds"]
    width, span = WIDTH - _LEFT - _RIGHT, (seconds[-1] or 1) if seconds else 1
    for part in (0.0, 0.5, 1.0):
        y = top + height * (1 - part)
        canvas.rule(y)
        canvas.text(_LEFT - 6, y + 4, f"{most * part / 1e6:.0f} MB", "right")
    below = [0.0] * len(seconds)
    for place, group in enumerate(groups):
        above = [low + high for low, high in zip(below, series["pss_bytes"].get(group, [0] * len(seconds)), strict=True)]
        edges = [
            [(_LEFT + width * at / span, top + height * (1 - value / most)) for at, value in zip(seconds, line, strict=True)]
            for line in (above, below)
        ]
        canvas.area([*edges[0], *reversed(edges[1])], _COLOURS[place % len(_COLOURS)])
        below = above
    canvas.text(_LEFT, top + height + 14, title, "small")
    canvas.text(WIDTH - _RIGHT, top + height + 14, f"{span:.0f} s", "small right")
    canvas.height = max(canvas.height, top + height + 14)


def _bars(canvas: Canvas, top: float, bars: Sequence[tuple[str, Mapping[str, float]]]) -> None:
    there = {part for _, sizes in bars for part, size in sizes.items() if size >= _LEAST_BYTES}
    parts = [str(part) for part in Part if part in there]
    colours = {part: _COLOURS[place % len(_COLOURS)] for place, part in enumerate(parts)}
    most = max((sum(sizes.values()) for _, sizes in bars), default=1) or 1
    for number, (name, sizes) in enumerate(bars):
        y, x = top + 40.0 * number, float(_LEFT)
        canvas.text(_LEFT, y + 10, f"{name}: {sum(sizes.values()) / 1e6:.1f} MB")
        for part in parts:
            size = sizes.get(part, 0)
            width = (WIDTH - _LEFT - _RIGHT) * size / most
            canvas.box(x, y + 15, width, 16, colour=colours[part], title=f"{part}: {size / 1e6:.2f} MB")
            x += width
    for place, part in enumerate(parts):
        _key(canvas, top + 4 + 18 * place, colours[part], part)


def _key(canvas: Canvas, y: float, colour: str, words: str) -> None:
    canvas.box(WIDTH - _RIGHT + 20, y, 12, 12, colour=colour)
    canvas.text(WIDTH - _RIGHT + 38, y + 10, words)
