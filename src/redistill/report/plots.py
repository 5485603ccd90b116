"""The report's plots as inline SVG: forest, scatter and curves.

Hand-built, so that colours follow the page's scheme, text stays text, equal input gives equal bytes, and a plot weighs a
few kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from redistill.report.svg import WIDTH, Axis, level, line, marker, svg, text, upright

_LABEL_GAP = 14.0


@dataclass(frozen=True, slots=True)
class Point:
    """One arm in a plot. ``role`` is a CSS class: teacher, student, or other; ``low`` and ``high`` bound ``y``."""

    name: str
    role: str
    y: float
    low: float
    high: float
    x: float = math.nan

    @property
    def description(self) -> str:
        return f"{self.name} {self.y:.1f} (95 % interval {self.low:.1f} to {self.high:.1f})"


def forest(title: str, points: Sequence[Point], span: Sequence[float]) -> Markup:
    """One row per arm with its 95 % interval; a dashed line shows the teacher's value.

    ``span`` is what the axis must hold besides the points, so that two plots side by side share one scale.
    """
    height = 26 * len(points) + 34
    left = 20 + round(7.5 * max(len(_short(p.name)) for p in points))
    axis = Axis.over([*span, *(v for p in points for v in (p.low, p.high))], left, WIDTH - 132, ceiling=100.0)
    base = height - 24
    parts = [line(axis.at(t), 4, axis.at(t), base, "grid") + text(axis.at(t), base + 16, f"{t:.6g}", "tick middle") for t in axis.ticks()]
    parts += [line(axis.at(p.y), 4, axis.at(p.y), base, "reference") for p in points if p.role == "teacher"]
    for i, p in enumerate(points):
        y = 26 * i + 18
        parts.append(text(left - 12, y + 4, _short(p.name), f"name end {p.role}"))
        parts.append(line(axis.at(p.low), y, axis.at(p.high), y, f"whisker {p.role}") + marker(axis.at(p.y), y, p.role, p.description))
        parts.append(text(WIDTH, y + 4, f"{p.y:.1f} ({p.low:.1f}–{p.high:.1f})", "value end"))
    return svg(height, f"{title}, percent, by arm: " + "; ".join(p.description for p in points), parts)


@dataclass(frozen=True, slots=True)
class Bound:
    """One gate in a plot: a difference with the interval that decides, and the limit that all of it must lie above."""

    name: str
    result: str
    value: float
    low: float
    high: float
    limit: float

    @property
    def description(self) -> str:
        return f"{self.name}: {self.result}, {self.value:.1f} ({self.low:.1f} to {self.high:.1f}), limit {self.limit:.1f}"


def bounds(title: str, gates: Sequence[Bound]) -> Markup:
    """One row a gate: it passes when its whole interval lies to the right of its limit, the upright bar."""
    height, left, right = 40 * len(gates) + 34, 12, WIDTH - 12
    axis = Axis.over([0.0, *(v for g in gates for v in (g.low, g.high, g.limit))], left, right)
    base = height - 24
    parts = [line(axis.at(t), 4, axis.at(t), base, "grid") + text(axis.at(t), base + 16, f"{t:.6g}", "tick middle") for t in axis.ticks()]
    for i, g in enumerate(gates):
        y = 40 * i + 30
        parts.append(text(left, y - 12, g.name, "name"))
        parts.append(line(axis.at(g.limit), y - 8, axis.at(g.limit), y + 8, "limit"))
        parts.append(line(axis.at(g.low), y, axis.at(g.high), y, f"whisker {g.result}"))
        shape = Markup('<g class="marker {}"><title>{}</title><circle cx="{}" cy="{}" r="4.5"/></g>')
        parts.append(shape.format(g.result, g.description, axis.at(g.value), y))
        parts.append(text(right, y - 12, f"{g.result}: {g.value:.1f} ({g.low:.1f} to {g.high:.1f})", "value end"))
    return svg(height, f"{title}: " + "; ".join(g.description for g in gates), parts)


def scatter(title: str, x_title: str, points: Sequence[Point]) -> Markup:
    """Quality upwards against a cost to the right; arms that share a place are drawn side by side."""
    height, left, right, top, base = 300, 40, WIDTH - 10, 30, 256
    x_axis = Axis.over([p.x for p in points], left + 16, right - 70, log_beyond=3.0)
    y_axis = Axis.over([v for p in points for v in (p.low, p.high)], base, top, ceiling=100.0)
    parts = upright(y_axis, left, right, title)
    parts += level(x_axis, base, height, x_title + (", log scale" if x_axis.log else ""))
    clusters = _clusters(sorted(points, key=lambda p: (p.x, -p.y, p.name)), x_axis, y_axis)
    edges = [float(left), *(x for c in clusters for x in (min(x for _, x in c), max(x for _, x in c))), float(right)]
    for i, cluster in enumerate(clusters):
        room_left, room_right = edges[2 * i + 1] - edges[2 * i], edges[2 * i + 3] - edges[2 * i + 2]
        rightwards = room_right >= min(room_left, 80)
        label_x = edges[2 * i + 2] + 14 if rightwards else edges[2 * i + 1] - 14
        if rightwards:  # the next cluster's labels must not fall on these
            edges[2 * i + 2] += 80
        heights = spread([y_axis.at(p.y) for p, _ in cluster], top + 6, base - 4)
        for (p, x), label_y in zip(cluster, heights, strict=True):
            y = y_axis.at(p.y)
            if len(cluster) > 1:
                parts.append(line(x, y, label_x + (-3 if rightwards else 3), label_y, "leader"))
            parts.append(line(x, y_axis.at(p.low), x, y_axis.at(p.high), f"whisker {p.role}") + marker(x, y, p.role, p.description))
            parts.append(text(label_x, label_y + 4, _short(p.name), f"name {'' if rightwards else 'end'} {p.role}"))
    description = "; ".join(f"{p.description} at {p.x:,.4g}" for p in points)
    return svg(height, f"{title} against {x_title}: {description}", parts)


def curves(title: str, series: Mapping[str, Sequence[tuple[float, float]]], role_of: Callable[[str], str]) -> Markup:
    """A line of (step, value) for each arm, named at its end. Long runs are thinned to some 300 points."""
    height, left, right, top, base = 240, 40, WIDTH - 84, 30, 196
    values = [v for rows in series.values() for _, v in rows]
    x_axis = Axis.over([0.0, *(s for rows in series.values() for s, _ in rows)], left, right)
    y_axis = Axis.over(values if min(values) > 0 and max(values) / min(values) > 30 else [0.0, *values], base, top, log_beyond=30.0)
    parts = upright(y_axis, left, right, title + (", log scale" if y_axis.log else ""))
    parts += level(x_axis, base, height, "Optimiser step")
    ends = spread([y_axis.at(rows[-1][1]) for rows in series.values()], top, base)
    for i, ((name, rows), label_y) in enumerate(zip(series.items(), ends, strict=True)):
        thinned = [*rows[: -1 : max(1, len(rows) // 300)], rows[-1]]
        path = " ".join(f"{x_axis.at(s)},{y_axis.at(v)}" for s, v in thinned)
        parts.append(Markup('<polyline class="curve dash-{} {}" points="{}"/>').format(i % 4, role_of(name), path))
        end_x, end_y = x_axis.at(rows[-1][0]), y_axis.at(rows[-1][1])
        parts.append(line(end_x + 2, end_y, right + 12, label_y, "leader"))
        parts.append(text(right + 15, label_y + 4, _short(name), f"name {role_of(name)}"))
    description = "; ".join(f"{name} from {rows[0][1]:.3g} to {rows[-1][1]:.3g} at step {rows[-1][0]:g}" for name, rows in series.items())
    return svg(height, f"{title} by optimiser step: {description}", parts)


def spread(wanted: Sequence[float], low: float, high: float, gap: float = _LABEL_GAP) -> list[float]:
    """Heights near the wanted ones, ``gap`` apart and between ``low`` and ``high`` where there is room for all."""
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    places = [wanted[i] for i in order]
    for _ in range(60):
        for i in range(1, len(places)):
            lacking = gap - (places[i] - places[i - 1])
            if lacking > 0:
                places[i - 1], places[i] = places[i - 1] - lacking / 2, places[i] + lacking / 2
        overhang = max(0.0, places[-1] - high) - max(0.0, low - places[0])
        places = [y - overhang for y in places]
    return [round(y, 1) for _, y in sorted(zip(order, places, strict=True))]


def reliability(title: str, series: Mapping[str, Sequence[tuple[float, float]]], role_of: Callable[[str], str]) -> Markup:
    """Share of right responses against confidence, in percent. On the diagonal, 80 % of the responses with a confidence of 80 % are right."""
    height, left, right, top, base = 300, 40, WIDTH - 84, 30, 256
    x_axis, y_axis = Axis(0.0, 100.0, 20.0, left, right, False), Axis(0.0, 100.0, 20.0, base, top, False)
    parts = upright(y_axis, left, right, "Exactly right, %") + level(x_axis, base, height, "Confidence, %")
    parts.append(line(left, base, right, top, "reference"))
    ends = spread([y_axis.at(rows[-1][1]) for rows in series.values()], top, base)
    for i, ((name, rows), label_y) in enumerate(zip(series.items(), ends, strict=True)):
        path = " ".join(f"{x_axis.at(x)},{y_axis.at(y)}" for x, y in rows)
        parts.append(Markup('<polyline class="curve dash-{} {}" points="{}"/>').format(i % 4, role_of(name), path))
        parts += [marker(x_axis.at(x), y_axis.at(y), role_of(name), Point(name, role_of(name), y, y, y, x).description) for x, y in rows]
        parts.append(text(right + 15, label_y + 4, _short(name), f"name {role_of(name)}"))
    description = "; ".join(f"{name}: " + ", ".join(f"confidence {x:.0f}, {y:.0f} right" for x, y in rows) for name, rows in series.items())
    return svg(height, f"{title}: {description}", parts)


def paths(
    y_title: str,
    x_title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    points: Sequence[Point],
    role_of: Callable[[str], str],
    limit: float | None = None,
) -> Markup:
    """Lines of (x, y), named at their right ends, with points of their own intervals on them; ``limit`` is a level that should not be crossed."""
    height, left, right, top, base = 300, 40, WIDTH - 84, 30, 256
    xs = [x for rows in series.values() for x, _ in rows] + [p.x for p in points]
    ys = [y for rows in series.values() for _, y in rows] + [v for p in points for v in (p.low, p.high)]
    x_axis, y_axis = Axis.over(xs, left, right), Axis.over([*ys, *([] if limit is None else [limit])], base, top, ceiling=100.0)
    parts = upright(y_axis, left, right, y_title) + level(x_axis, base, height, x_title)
    if limit is not None:
        parts.append(line(left, y_axis.at(limit), right, y_axis.at(limit), "limit"))
    last = [max(rows) for rows in series.values()]
    ends = spread([y_axis.at(y) for _, y in last], top, base)
    for i, ((name, rows), (end_x, end_y), label_y) in enumerate(zip(series.items(), last, ends, strict=True)):
        path = " ".join(f"{x_axis.at(x)},{y_axis.at(y)}" for x, y in rows)
        parts.append(Markup('<polyline class="curve dash-{} {}" points="{}"/>').format(i % 4, role_of(name), path))
        parts.append(line(x_axis.at(end_x) + 2, y_axis.at(end_y), right + 12, label_y, "leader"))
        parts.append(text(right + 15, label_y + 4, _short(name), f"name {role_of(name)}"))
    for p in points:
        x = x_axis.at(p.x)
        parts.append(
            line(x, y_axis.at(p.low), x, y_axis.at(p.high), f"whisker {p.role}") + marker(x, y_axis.at(p.y), p.role, p.description)
        )
    described = [
        f"{name} from {rows[0][1]:.1f} at {rows[0][0]:.3g} to {rows[-1][1]:.1f} at {rows[-1][0]:.3g}" for name, rows in series.items()
    ]
    described += [f"{p.description} at {p.x:.3g}" for p in points]
    return svg(height, f"{y_title} against {x_title}: " + "; ".join(described), parts)


def volume(title: str, saving: float, bounds_of_saving: tuple[float, float], fixed: float, at: float) -> Markup:
    """USD saved in a month against requests in it: a line from minus the cycles' cost, zero at the break-even, a mark at today's volume.

    ``saving`` is USD a request; thin lines show what its two bounds would save.
    """
    height, left, right, top, base = 260, 56, WIDTH - 12, 30, 216
    even = fixed / saving if saving > 0 else 0.0
    scale, unit = (1e-6, ", millions") if max(at, even) >= 2e6 else (1e-3, ", thousands") if max(at, even) >= 2e3 else (1.0, "")
    x_axis = Axis.over([0.0, 1.2 * scale * max(at, even)], left, right)
    ends = [[usd * x / scale - fixed for x in (x_axis.low, x_axis.high)] for usd in (saving, *bounds_of_saving)]
    y_axis = Axis.over([0.0, *(usd for pair in ends for usd in pair)], base, top)
    parts = upright(y_axis, left, right, "USD a month") + level(x_axis, base, height, "Requests a month" + unit)
    parts.append(line(left, y_axis.at(0.0), right, y_axis.at(0.0), "limit"))
    for role, (first, last) in zip(("curve student", "bound student", "bound student"), ends, strict=True):
        parts.append(line(x_axis.at(x_axis.low), y_axis.at(first), x_axis.at(x_axis.high), y_axis.at(last), role))
    least, most = (usd * at - fixed for usd in bounds_of_saving)
    now = saving * at - fixed
    parts.append(marker(x_axis.at(scale * at), y_axis.at(now), "student", Point("now", "student", now, now, now, at).description))
    description = f"{title}: {now:,.2f} USD a month ({least:,.2f} to {most:,.2f}) at {at:,.0f} requests" + (
        f"; break-even at {even:,.0f}" if saving > 0 else "; never pays"
    )
    return svg(height, description, parts)


def _clusters(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> list[list[tuple[Point, float]]]:
    """Points by neighbourhood along x, each with its place; those whose intervals would cover each other stand side by side."""
    clusters: list[list[Point]] = []
    for p in points:
        if clusters and x_axis.at(p.x) - x_axis.at(clusters[-1][-1].x) < 30:
            clusters[-1].append(p)
        else:
            clusters.append([p])
    placed = []
    for cluster in clusters:
        rows: list[list[Point]] = []
        for p in sorted(cluster, key=lambda p: (p.low, p.name)):
            if rows and y_axis.at(p.low) > min(y_axis.at(q.high) for q in rows[-1]) - 8:
                rows[-1].append(p)
            else:
                rows.append([p])
        side_by_side = [spread([x_axis.at(p.x) for p in row], -math.inf, math.inf, 9.0) for row in rows]
        placed.append([pair for row, xs in zip(rows, side_by_side, strict=True) for pair in zip(row, xs, strict=True)])
    return placed


def _short(name: str) -> str:
    return name if len(name) <= 11 else name[:10] + "…"
