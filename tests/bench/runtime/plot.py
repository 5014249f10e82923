"""Small line plots as SVG, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

__all__ = ["Panel", "plot"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 300, 180, 48, 26, 12, 24
_COLOUR: Final = "#2563a8"


class Panel(NamedTuple):
    """A title, and points with both values above 0, their first values ascending."""

    title: str
    points: Sequence[tuple[float, float]]


def plot(panels: Sequence[Panel], columns: int) -> str:
    """The panels in rows of ``columns``."""
    rows = math.ceil(len(panels) / columns)
    width, height = columns * _WIDTH, rows * _HEIGHT
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *(_panel(panel, place % columns * _WIDTH, place // columns * _HEIGHT) for place, panel in enumerate(panels)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(panel: Panel, left: int, top: int) -> str:
    across = [x for x, _ in panel.points]
    up = [y for _, y in panel.points]
    # At least a factor of two, so that what is flat looks flat.
    middle = math.sqrt(min(up) * max(up))
    low, high = min(*up, middle / math.sqrt(2)), max(*up, middle * math.sqrt(2))

    def place(x: float, y: float) -> tuple[float, float]:
        along = math.log(x / across[0]) / (math.log(across[-1] / across[0]) or 1.0)
        height = math.log(y / low) / math.log(high / low)
        return (
            round(left + _LEFT + along * (_WIDTH - _LEFT - _RIGHT), 1),
            round(top + _HEIGHT - _BOTTOM - height * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    dots = [place(x, y) for x, y in panel.points]
    frame = (left + _LEFT, top + _TOP, _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM)
    line = " ".join(f"{x},{y}" for x, y in dots)
    out = [
        f'<text x="{left + _LEFT}" y="{top + 16}" font-weight="bold">{escape(panel.title)}</text>',
        '<rect x="{}" y="{}" width="{}" height="{}" fill="none" stroke="#bbb"/>'.format(*frame),
        f'<polyline points="{line}" fill="none" stroke="{_COLOUR}" stroke-width="1.5"/>',
    ]
    for (x, y), (value, _) in zip(dots, panel.points, strict=True):
        out.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{_COLOUR}"/>')
        out.append(f'<text x="{x}" y="{top + _HEIGHT - 10}" text-anchor="middle">{value:g}</text>')
    for value in (low, high):
        _, y = place(across[0], value)
        out.append(f'<text x="{left + _LEFT - 4}" y="{y + 3}" text-anchor="end">{value:.3g}</text>')
    return "\n".join(out)
