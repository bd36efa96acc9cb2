"""A line plot in panels side by side, as an SVG that needs no other file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

PANEL_WIDTH, PANEL_HEIGHT = 300, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 106, 56
INK, GRID = "#24292f", "#d0d7de"
# The second line is dashed and has squares, so that the lines differ without colours too.
COLOURS = ("#0969da", "#bc4c00")
TICKS = 5
STYLE = f"""\
text {{ font: 12px system-ui, sans-serif; fill: {INK}; }}
.title {{ font-size: 15px; font-weight: 600; }}
.panel {{ font-weight: 600; }}
.grid {{ stroke: {GRID}; }}
.axis {{ stroke: {INK}; }}
.line {{ fill: none; stroke-width: 2; }}"""


@dataclass(frozen=True)
class Panel:
    """A panel with one scale that starts at 0. `series` maps names for the legend to a value per point; two at most."""

    heading: str
    series: Mapping[str, Sequence[float]]


def line_plot(title: str, x_name: str, x_values: Sequence[int], panels: Sequence[Panel]) -> str:
    """Return the SVG. Points are at equal distances; every panel has the series of the first one."""
    width, height = len(panels) * (LEFT + PANEL_WIDTH + RIGHT), TOP + PANEL_HEIGHT + BOTTOM
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(_described(x_name, x_values, panels))}</desc>',
        f"<style>\n{STYLE}\n</style>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 26, title, "start", "title"),
        *_legend(list(panels[0].series)),
    ]
    for number, panel in enumerate(panels):
        begin = number * (LEFT + PANEL_WIDTH + RIGHT) + LEFT
        drawn += [f'<g transform="translate({begin} {TOP})">', *_panel(panel, x_name, x_values), "</g>"]
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _described(x_name: str, x_values: Sequence[int], panels: Sequence[Panel]) -> str:
    """Return all values in words, for readers who cannot see the lines."""
    points = ", ".join(map(str, x_values))
    lines = [
        f"{panel.heading}, {name}: {', '.join(f'{value:.1f}' for value in values)}."
        for panel in panels
        for name, values in panel.series.items()
    ]
    return " ".join([f"By {x_name} ({points}).", *lines])


def _legend(names: Sequence[str]) -> list[str]:
    drawn = []
    for number, name in enumerate(names):
        begin = LEFT + number * 180
        drawn += [_line(number, [(begin, 50), (begin + 36, 50)]), _mark(number, begin + 18, 50)]
        drawn.append(_text(begin + 44, 54, name))
    return drawn


def _panel(panel: Panel, x_name: str, x_values: Sequence[int]) -> list[str]:
    step = _nice_step(max(max(values) for values in panel.series.values()))
    drawn = [_text(0, -14, panel.heading, "start", "panel"), *_scale(step)]
    across = [PANEL_WIDTH * (number + 0.5) / len(x_values) for number in range(len(x_values))]
    drawn += [_text(x, PANEL_HEIGHT + 20, str(value), "middle") for x, value in zip(across, x_values, strict=True)]
    drawn.append(_text(PANEL_WIDTH / 2, PANEL_HEIGHT + 42, x_name, "middle"))
    for number, values in enumerate(panel.series.values()):
        heights = [PANEL_HEIGHT * (1 - max(0.0, value) / (TICKS * step)) for value in values]
        points = list(zip(across, heights, strict=True))
        drawn += [_line(number, points), *(_mark(number, x, y) for x, y in points)]
    return drawn


def _scale(step: float) -> list[str]:
    """Return the axis and a grid line for each multiple of `step`."""
    drawn = []
    for tick in range(TICKS + 1):
        y = PANEL_HEIGHT * (1 - tick / TICKS)
        drawn.append(f'<line class="{"grid" if tick else "axis"}" x2="{PANEL_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(_text(-8, y + 4, f"{tick * step:g}", "end"))
    return drawn


def _line(number: int, points: Sequence[tuple[float, float]]) -> str:
    dashes = ' stroke-dasharray="6 4"' if number else ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="line" points="{path}" stroke="{COLOURS[number]}"{dashes}/>'


def _mark(number: int, x: float, y: float) -> str:
    if number:
        return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{COLOURS[number]}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[number]}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", style: str = "") -> str:
    styled = f' class="{style}"' if style else ""
    return f'<text{styled} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _nice_step(highest: float) -> float:
    """Return the smallest step of 1, 2, 2.5 or 5 times a power of ten for which TICKS steps reach `highest`."""
    least = max(highest, 1e-9) / TICKS
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= least)
