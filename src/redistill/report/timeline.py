"""A quantity over nights as inline SVG: a dot for each night, its interval where it has one, and a cross for a night that failed."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from redistill.report.plots import spread
from redistill.report.svg import WIDTH, Axis, line, marker, svg, text, upright

_HEIGHT, _LEFT, _RIGHT, _TOP, _BASE = 200, 44, WIDTH - 84, 30, 164
_TICKS = 4
_SHIFT = 3.0
"""To the right for each further series, so that their intervals do not cover each other."""
_CROSS = Markup('<g class="marker fail"><title>{}</title><path d="M{} {}l7 7m0-7l-7 7"/></g>')


@dataclass(frozen=True, slots=True)
class Moment:
    """A value at a time, with its 95 % interval if it has one."""

    at: dt.datetime
    y: float
    low: float | None = None
    high: float | None = None


def timeline(
    title: str,
    series: Mapping[str, Sequence[Moment]],
    failed: Sequence[dt.datetime],
    span: Sequence[float] = (),
    ceiling: float = math.inf,
    named: Mapping[str, str] | None = None,
    each: str = "night",
) -> Markup:
    """One line for each named series, at least one of which has a value; the axis begins at zero where the values come near it.

    ``span`` is what the axis must hold besides the values, and ``ceiling`` where it ends at the latest.
    ``student`` and ``teacher`` have the colours that they have on the rest of the page. ``failed`` are the times of nights without a value.
    ``named`` gives a series another name on the plot; ``each`` is what a dot stands for.
    """
    names = named or {}
    moments = [m for row in series.values() for m in row]
    times = [m.at.timestamp() for m in moments] + [at.timestamp() for at in failed]
    x_axis = Axis(min(times), max(times) if max(times) > min(times) else min(times) + 1.0, 0.0, _LEFT + 8, _RIGHT - 8, False)
    values = [*span, *(v for m in moments for v in (m.y, m.low, m.high) if v is not None)]
    low, high = min(values), max(values)
    y_axis = Axis.over([*values, *([0.0] if low < 0.5 * high or low == high else [])], _BASE, _TOP, ceiling=ceiling)
    parts = upright(y_axis, _LEFT, _RIGHT, title) + _dates(x_axis)
    for at in failed:
        x = x_axis.at(at.timestamp())
        parts.append(_CROSS.format(f"failed on {at:%-d %B, %H:%M}", x - 3.5, _BASE - 10))
    ends = spread([y_axis.at(row[-1].y) for row in series.values()], _TOP, _BASE)
    for i, ((name, row), label_y) in enumerate(zip(series.items(), ends, strict=True)):
        role = name if name in ("student", "teacher") else "other"
        name = names.get(name, name)
        shift = i * _SHIFT
        path = " ".join(f"{x_axis.at(m.at.timestamp()) + shift:.1f},{y_axis.at(m.y)}" for m in row)
        parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(role, path))
        parts += [mark for m in row for mark in _marks(m, name, role, shift, x_axis, y_axis)]
        parts.append(text(_RIGHT + 3, label_y + 4, name, f"name {role}"))
    description = "; ".join(
        f"{names.get(name, name)}: {row[0].y:,.4g} to {row[-1].y:,.4g} in {len(row)} {each}s" for name, row in series.items()
    )
    return svg(_HEIGHT, f"{title}, by {each}: {description}" + (f"; {len(failed)} failed" if failed else ""), parts)


def _marks(moment: Moment, name: str, role: str, shift: float, x_axis: Axis, y_axis: Axis) -> list[Markup]:
    x, shown = round(x_axis.at(moment.at.timestamp()) + shift, 1), f"{moment.at:%-d %B, %H:%M}: {name} {moment.y:,.4g}"
    if moment.low is None or moment.high is None:
        return [marker(x, y_axis.at(moment.y), role, shown)]
    shown += f" (95 % interval {moment.low:,.4g} to {moment.high:,.4g})"
    return [line(x, y_axis.at(moment.low), x, y_axis.at(moment.high), f"whisker {role}"), marker(x, y_axis.at(moment.y), role, shown)]


def _dates(axis: Axis) -> list[Markup]:
    """Dates below the axis, or times of day where all nights are within two days."""
    shape = "%-d %b" if axis.high - axis.low > 2 * 86400 else "%-d %b, %H:%M"
    count = _TICKS if axis.high - axis.low > 2 * 86400 else 2
    at = [axis.low + i * (axis.high - axis.low) / (count - 1) for i in range(count)]
    labels = [dt.datetime.fromtimestamp(s, dt.UTC).strftime(shape) for s in at]
    return [
        line(axis.at(s), _BASE, axis.at(s), _BASE + 4, "grid") + text(axis.at(s), _BASE + 17, label, "tick middle")
        for s, label in zip(at, labels, strict=True)
    ]
