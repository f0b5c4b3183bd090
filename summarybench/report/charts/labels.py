"""Labels of points in a chart that cover neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from summarybench.report.charts.svg import CHARACTER_WIDTH, INK, MUTED

Box = tuple[float, float, float, float]
"""Left, bottom, right and top in pixels."""
Point = tuple[str, float, float]
"""A label, x and y in units of the axes."""


def place_labels(axes: Any, points: Sequence[Point], radii: Sequence[float]) -> None:
    """Write each label beside its point, where it covers the least of other labels and points."""
    at = axes.transData.transform([(x, y) for _, x, y in points])
    frame = axes.get_window_extent()
    taken: list[Box] = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(at, radii, strict=True)]
    for (label, _, _), (x, y), radius in zip(points, at, radii, strict=True):
        places = [_inside(label, x, place, frame) for place in _places(len(label) * CHARACTER_WIDTH, radius)]
        dx, dy = min(places, key=lambda place: _cost(_box(label, x, y, place), taken, frame) + place[2])[:2]
        taken.append(_box(label, x, y, (dx, dy, 0)))
        is_far = abs(dy) > radius + 22
        axes.annotate(
            label,
            tuple(axes.transData.inverted().transform((x, y))),
            xytext=(dx, dy),
            textcoords="offset points",
            color=INK,
            fontsize=11.5,
            zorder=5,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.8, "shrinkB": 3} if is_far else None,
        )


def _inside(label: str, x: float, place: tuple[float, float, float], frame: Any) -> tuple[float, float, float]:
    """The place, moved to the side as far as the axes would cut its label off."""
    dx, dy, cost = place
    most = frame.x1 - len(label) * CHARACTER_WIDTH
    return max(frame.x0 + 2, min(x + dx, most)) - x, dy, cost


def _places(width: float, radius: float) -> list[tuple[float, float, float]]:
    """Offsets of a label of this width from its point, each with the cost of its distance."""
    found = []
    for distance in range(0, 60, 6):
        near = radius + 4 + distance
        diagonal = near * 0.8
        found += [
            (dx, dy, distance * 0.5)
            for dx, dy in (
                (near, -4), (-near - width, -4), (-width / 2, near), (-width / 2, -near - 9),
                (diagonal, diagonal), (diagonal, -diagonal - 9),
                (-diagonal - width, diagonal), (-diagonal - width, -diagonal - 9),
            )
        ]  # fmt: skip
    return found


def _box(label: str, x: float, y: float, place: tuple[float, float, float]) -> Box:
    dx, dy, _ = place
    return x + dx - 2, y + dy - 3, x + dx + len(label) * CHARACTER_WIDTH, y + dy + 11


def _cost(box: Box, taken: Sequence[Box], frame: Any) -> float:
    """The area that a label would cover, and much more if it left the chart."""
    is_outside: bool = box[0] < frame.x0 or box[2] > frame.x1 + 10 or box[1] < frame.y0 + 2 or box[3] > frame.y1 + 8
    return sum(_overlap(box, other) for other in taken) + 1_000 * is_outside


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return across * up if across > 0 and up > 0 else 0.0
