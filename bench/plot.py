"""A drawing of the ratios to the reference, as SVG; needs no library. Knows only the summary that goes into results files."""

import math
import statistics
from collections.abc import Sequence
from html import escape
from typing import Any

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 860, 180, 150, 44, 64
_DECADES = (0.2, 5.0)
_MET, _MISSED, _NONE = "#2e7d32", "#c62828", "#757575"


def _x(ratio: float) -> float:
    low, high = map(math.log, _DECADES)
    place = (math.log(min(max(ratio, _DECADES[0]), _DECADES[1])) - low) / (high - low)
    return _LEFT + place * (_WIDTH - _LEFT - _RIGHT)


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _row(y: float, figure: dict[str, Any], ratios: Sequence[float], bar: dict[str, Any]) -> list[str]:
    middle = statistics.median(ratios)
    colour = {True: _MET, False: _MISSED}.get(bar["met"], _NONE)
    wanted = bar["bar"].rsplit(" ", 1)[0]
    limit = _x(float(wanted.split()[1].rstrip("x")))
    start, end = sorted((_x(1.0), _x(middle)))
    dots = [f'<circle cx="{_x(each):.1f}" cy="{y:.1f}" r="3" fill="#0008"/>' for each in ratios]
    return [
        _text(_LEFT - 12, y + 4, figure["title"], 'text-anchor="end"'),
        f'<rect x="{start:.1f}" y="{y - 9:.1f}" width="{max(end - start, 1):.1f}" height="18" fill="{colour}" opacity="0.6"/>',
        f'<path d="M{limit:.1f} {y - 15:.1f}v30" stroke="{colour}" stroke-width="2" stroke-dasharray="4 2"/>',
        *dots,
        _text(_WIDTH - _RIGHT + 12, y + 4, f"{middle:.2f}x", 'font-weight="bold"'),
        _text(_WIDTH - _RIGHT + 66, y + 4, f"bar {wanted}", f'fill="{colour}"'),
    ]


def draw(summary: Sequence[dict[str, Any]], subject: str, reference: str) -> str:
    """One row for each figure that has a bar against `reference`: the median as a block, rounds as dots, the bar dashed."""
    key = f"{subject}/{reference}"
    body: list[str] = []
    y = _TOP + _ROW / 2
    for figure in summary:
        bars = [bar for bar in figure["bars"] if bar["bar"].endswith(reference)]
        ratios = figure["ratios"].get(key, [])
        if bars and ratios:
            body += _row(y, figure, ratios, bars[0])
            y += _ROW
    height = y + 10
    grid = [
        f'<path d="M{_x(tick):.1f} {_TOP - 8}V{height - 20:.1f}" stroke="#0003"/>'
        + _text(_x(tick), _TOP - 14, f"{tick:g}x", 'text-anchor="middle" fill="#666"')
        for tick in (0.25, 0.5, 1, 2, 4)
    ]
    title = (
        f"{subject} as a multiple of {reference}: median of paired rounds (dots: rounds; dashed: bar, green when met)"
    )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}"'
            ' font-family="sans-serif" font-size="13">',
            f'<rect width="{_WIDTH}" height="{height:.0f}" fill="white"/>',
            _text(20, 24, title, 'font-size="15"'),
            *grid,
            *body,
            "</svg>\n",
        )
    )
