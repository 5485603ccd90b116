"""The report's plots as inline SVG: forest, scatter and curves.

Hand-built, so that colours follow the page's scheme, text stays text, equal input gives equal bytes, and a plot weighs a
few kilobytes. Everything that comes from outside passes ``Markup.format``, which escapes it. Plots are 420 units wide:
small enough to be readable on a phone unscaled, and two stand side by side on a desk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 420
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


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to pixels. ``start`` may lie beyond ``end``: an upright axis grows towards smaller pixels."""

    low: float
    high: float
    step: float
    start: float
    end: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, log_beyond: float = math.inf, ceiling: float = math.inf) -> Axis:
        """An axis around finite values, logarithmic where the largest is ``log_beyond`` times the smallest or more."""
        low, high = min(values), max(values)
        if low > 0 and high / low >= log_beyond:
            return cls(low / 1.4, high * 1.4, 0.0, start, end, True)
        if high == low:
            low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
        magnitude = 10.0 ** math.floor(math.log10((high - low) / 4))
        step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if (high - low) / (m * magnitude) <= 5)
        return cls(math.floor(low / step) * step, min(ceiling, math.ceil(high / step) * step), step, start, end, False)

    def at(self, value: float) -> float:
        low, high, here = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (here - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        if not self.log:
            return [self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        choices = [[m * 10.0**d for d in decades for m in ms if self.low <= m * 10.0**d <= self.high] for ms in ((1, 2, 5), (1, 3), (1,))]
        return next((c for c in choices if len(c) <= 6), choices[-1][:: max(1, len(choices[-1]) // 5)])


def forest(title: str, points: Sequence[Point], span: Sequence[float]) -> Markup:
    """One row per arm with its 95 % interval; a dashed line shows the teacher's value.

    ``span`` is what the axis must hold besides the points, so that two plots side by side share one scale.
    """
    height = 26 * len(points) + 34
    left = 20 + round(7.5 * max(len(_short(p.name)) for p in points))
    axis = Axis.over([*span, *(v for p in points for v in (p.low, p.high))], left, WIDTH - 132, ceiling=100.0)
    base = height - 24
    parts = [_line(axis.at(t), 4, axis.at(t), base, "grid") + _text(axis.at(t), base + 16, f"{t:.6g}", "tick middle") for t in axis.ticks()]
    parts += [_line(axis.at(p.y), 4, axis.at(p.y), base, "reference") for p in points if p.role == "teacher"]
    for i, p in enumerate(points):
        y = 26 * i + 18
        parts.append(_text(left - 12, y + 4, _short(p.name), f"name end {p.role}"))
        parts.append(_line(axis.at(p.low), y, axis.at(p.high), y, f"whisker {p.role}") + _marker(axis.at(p.y), y, p))
        parts.append(_text(WIDTH, y + 4, f"{p.y:.1f} ({p.low:.1f}–{p.high:.1f})", "value end"))
    return _svg(height, f"{title}, percent, by arm: " + "; ".join(p.description for p in points), parts)


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
    parts = [_line(axis.at(t), 4, axis.at(t), base, "grid") + _text(axis.at(t), base + 16, f"{t:.6g}", "tick middle") for t in axis.ticks()]
    for i, g in enumerate(gates):
        y = 40 * i + 30
        parts.append(_text(left, y - 12, g.name, "name"))
        parts.append(_line(axis.at(g.limit), y - 8, axis.at(g.limit), y + 8, "limit"))
        parts.append(_line(axis.at(g.low), y, axis.at(g.high), y, f"whisker {g.result}"))
        shape = Markup('<g class="marker {}"><title>{}</title><circle cx="{}" cy="{}" r="4.5"/></g>')
        parts.append(shape.format(g.result, g.description, axis.at(g.value), y))
        parts.append(_text(right, y - 12, f"{g.result}: {g.value:.1f} ({g.low:.1f} to {g.high:.1f})", "value end"))
    return _svg(height, f"{title}: " + "; ".join(g.description for g in gates), parts)


def scatter(title: str, x_title: str, points: Sequence[Point]) -> Markup:
    """Quality upwards against a cost to the right; arms that share a place are drawn side by side."""
    height, left, right, top, base = 300, 40, WIDTH - 10, 30, 256
    x_axis = Axis.over([p.x for p in points], left + 16, right - 70, log_beyond=3.0)
    y_axis = Axis.over([v for p in points for v in (p.low, p.high)], base, top, ceiling=100.0)
    parts = _upright(y_axis, left, right, title)
    parts += _level(x_axis, base, height, x_title + (", log scale" if x_axis.log else ""))
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
                parts.append(_line(x, y, label_x + (-3 if rightwards else 3), label_y, "leader"))
            parts.append(_line(x, y_axis.at(p.low), x, y_axis.at(p.high), f"whisker {p.role}") + _marker(x, y, p))
            parts.append(_text(label_x, label_y + 4, _short(p.name), f"name {'' if rightwards else 'end'} {p.role}"))
    description = "; ".join(f"{p.description} at {p.x:,.4g}" for p in points)
    return _svg(height, f"{title} against {x_title}: {description}", parts)


def curves(title: str, series: Mapping[str, Sequence[tuple[float, float]]], role_of: Callable[[str], str]) -> Markup:
    """A line of (step, value) for each arm, named at its end. Long runs are thinned to some 300 points."""
    height, left, right, top, base = 240, 40, WIDTH - 84, 30, 196
    values = [v for rows in series.values() for _, v in rows]
    x_axis = Axis.over([0.0, *(s for rows in series.values() for s, _ in rows)], left, right)
    y_axis = Axis.over(values if min(values) > 0 and max(values) / min(values) > 30 else [0.0, *values], base, top, log_beyond=30.0)
    parts = _upright(y_axis, left, right, title + (", log scale" if y_axis.log else ""))
    parts += _level(x_axis, base, height, "Optimiser step")
    ends = spread([y_axis.at(rows[-1][1]) for rows in series.values()], top, base)
    for i, ((name, rows), label_y) in enumerate(zip(series.items(), ends, strict=True)):
        thinned = [*rows[: -1 : max(1, len(rows) // 300)], rows[-1]]
        path = " ".join(f"{x_axis.at(s)},{y_axis.at(v)}" for s, v in thinned)
        parts.append(Markup('<polyline class="curve dash-{} {}" points="{}"/>').format(i % 4, role_of(name), path))
        end_x, end_y = x_axis.at(rows[-1][0]), y_axis.at(rows[-1][1])
        parts.append(_line(end_x + 2, end_y, right + 12, label_y, "leader"))
        parts.append(_text(right + 15, label_y + 4, _short(name), f"name {role_of(name)}"))
    description = "; ".join(f"{name} from {rows[0][1]:.3g} to {rows[-1][1]:.3g} at step {rows[-1][0]:g}" for name, rows in series.items())
    return _svg(height, f"{title} by optimiser step: {description}", parts)


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
    parts = _upright(y_axis, left, right, "Exactly right, %") + _level(x_axis, base, height, "Confidence, %")
    parts.append(_line(left, base, right, top, "reference"))
    ends = spread([y_axis.at(rows[-1][1]) for rows in series.values()], top, base)
    for i, ((name, rows), label_y) in enumerate(zip(series.items(), ends, strict=True)):
        path = " ".join(f"{x_axis.at(x)},{y_axis.at(y)}" for x, y in rows)
        parts.append(Markup('<polyline class="curve dash-{} {}" points="{}"/>').format(i % 4, role_of(name), path))
        parts += [_marker(x_axis.at(x), y_axis.at(y), Point(name, role_of(name), y, y, y, x)) for x, y in rows]
        parts.append(_text(right + 15, label_y + 4, _short(name), f"name {role_of(name)}"))
    description = "; ".join(f"{name}: " + ", ".join(f"confidence {x:.0f}, {y:.0f} right" for x, y in rows) for name, rows in series.items())
    return _svg(height, f"{title}: {description}", parts)


def volume(title: str, saving: float, bounds_of_saving: tuple[float, float], fixed: float, at: float) -> Markup:
    """USD saved in a month against requests in it: a line from minus the cycles' cost, zero at the break-even, a mark at today's volume.

    ``saving`` is USD a request; thin lines show what its two bounds would save.
    """
    height, left, right, top, base = 260, 56, WIDTH - 12, 30, 216
    even = fixed / saving if saving > 0 else 0.0
    scale, unit = (1e-6, ", millions") if max(at, even) >= 2e6 else (1e-3, ", thousands") if max(at, even) >= 2e3 else (1.0, "")
    x_axis = Axis.over([0.0, 1.2 * scale * max(at, even)], left, right)
    lines = [[usd * x / scale - fixed for x in (x_axis.low, x_axis.high)] for usd in (saving, *bounds_of_saving)]
    y_axis = Axis.over([0.0, *(usd for line in lines for usd in line)], base, top)
    parts = _upright(y_axis, left, right, "USD a month") + _level(x_axis, base, height, "Requests a month" + unit)
    parts.append(_line(left, y_axis.at(0.0), right, y_axis.at(0.0), "limit"))
    for role, line in zip(("curve student", "bound student", "bound student"), lines, strict=True):
        parts.append(_line(x_axis.at(x_axis.low), y_axis.at(line[0]), x_axis.at(x_axis.high), y_axis.at(line[1]), role))
    least, most = (usd * at - fixed for usd in bounds_of_saving)
    now = saving * at - fixed
    parts.append(_marker(x_axis.at(scale * at), y_axis.at(now), Point("now", "student", now, now, now, at)))
    description = f"{title}: {now:,.2f} USD a month ({least:,.2f} to {most:,.2f}) at {at:,.0f} requests" + (
        f"; break-even at {even:,.0f}" if saving > 0 else "; never pays"
    )
    return _svg(height, description, parts)


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
        levels: list[list[Point]] = []
        for p in sorted(cluster, key=lambda p: (p.low, p.name)):
            if levels and y_axis.at(p.low) > min(y_axis.at(q.high) for q in levels[-1]) - 8:
                levels[-1].append(p)
            else:
                levels.append([p])
        side_by_side = [spread([x_axis.at(p.x) for p in level], -math.inf, math.inf, 9.0) for level in levels]
        placed.append([pair for level, xs in zip(levels, side_by_side, strict=True) for pair in zip(level, xs, strict=True)])
    return placed


def _upright(axis: Axis, left: float, right: float, title: str) -> list[Markup]:
    grid = [_line(left, axis.at(t), right, axis.at(t), "grid") for t in axis.ticks()]
    ticks = [_text(left - 6, axis.at(t) + 4, f"{t:,.6g}", "tick end") for t in axis.ticks()]
    return [*grid, *ticks, _text(0, 12, title, "axis")]


def _level(axis: Axis, base: float, height: float, title: str) -> list[Markup]:
    marks = [_line(axis.at(t), base, axis.at(t), base + 4, "grid") for t in axis.ticks()]
    ticks = [_text(axis.at(t), base + 17, f"{t:,.6g}", "tick middle") for t in axis.ticks()]
    return [*marks, *ticks, _text((axis.start + axis.end) / 2, height - 6, title, "axis middle")]


def _marker(x: float, y: float, point: Point) -> Markup:
    """A diamond for the teacher, a disc for the candidate, rings for the rest: different without colour too."""
    diamond, circle = Markup('<path d="M{} {}l5 5l-5 5l-5-5z"/>'), Markup('<circle cx="{}" cy="{}" r="{}"/>')
    shape = diamond.format(x, round(y - 5, 1)) if point.role == "teacher" else circle.format(x, y, 4.5 if point.role == "student" else 3.5)
    return Markup('<g class="marker {}"><title>{}</title>{}</g>').format(point.role, point.description, shape)


def _line(x1: float, y1: float, x2: float, y2: float, role: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(role, x1, y1, x2, y2)


def _text(x: float, y: float, text: str, role: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(" ".join(role.split()), x, round(y, 1), text)


def _svg(height: float, description: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="plot" role="img" viewBox="0 0 {} {}" aria-label="{}">').format(WIDTH, height, description)
    return head + Markup("").join(parts) + Markup("</svg>")


def _short(name: str) -> str:
    return name if len(name) <= 11 else name[:10] + "…"
