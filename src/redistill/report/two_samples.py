"""Two samples side by side as inline SVG: their histograms, and the shares of their categories. The reference is an outline, live traffic is filled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from redistill.report.svg import WIDTH, Axis, level, line, svg, text, upright

_BINS = 16
_ROW = 30


def histograms(title: str, x_title: str, reference: Sequence[float], live: Sequence[float]) -> Markup:
    """Share of the rows in each of 16 equal parts of the values' range; the few most extreme values are counted in the first and last part."""
    height, left, right, top, base = 260, 44, WIDTH - 12, 30, 212
    values = np.array([*reference, *live])
    low, high = np.quantile(values, (0.005, 0.995))
    x_axis = Axis.over([float(low), float(high)], left, right)
    edges = np.linspace(x_axis.low, x_axis.high, _BINS + 1)
    shares = [100 * np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] / len(side) for side in (reference, live)]
    y_axis = Axis.over([0.0, *(float(v) for side in shares for v in side)], base, top)
    parts = upright(y_axis, left, right, title) + level(x_axis, base, height, x_title)
    bars = Markup('<rect class="bar student" x="{}" y="{}" width="{}" height="{}"/>')
    xs = [x_axis.at(float(e)) for e in edges]
    parts += [
        bars.format(round(x + 1, 1), y_axis.at(float(v)), round(xs[i + 1] - x - 2, 1), round(base - y_axis.at(float(v)), 1))
        for i, (x, v) in enumerate(zip(xs, shares[1], strict=False))
        if v > 0
    ]
    corners = [f"{xs[i + side]},{y_axis.at(float(v))}" for i, v in enumerate(shares[0]) for side in (0, 1)]
    parts.append(Markup('<polyline class="curve other" points="{}"/>').format(f"{xs[0]},{base} {' '.join(corners)} {xs[-1]},{base}"))
    middle = [float(np.median(side)) for side in (reference, live)]
    description = (
        f"{title} by {x_title}: median {middle[0]:.3g} of {len(reference)} reference rows, {middle[1]:.3g} of {len(live)} live rows"
    )
    return svg(height, description, parts)


def shares(title: str, rows: Sequence[tuple[str, float, float]]) -> Markup:
    """A row for each (name, reference, live), in percent: a bar for live traffic, an upright line for the reference."""
    height, left = _ROW * len(rows) + 50, 148
    axis = Axis.over([0.0, *(v for _, *pair in rows for v in pair)], left, WIDTH - 12)
    base = height - 34
    parts = [line(axis.at(t), 16, axis.at(t), base, "grid") + text(axis.at(t), base + 16, f"{t:.6g}", "tick middle") for t in axis.ticks()]
    parts.append(text((left + WIDTH) / 2, height - 2, f"{title}, %", "axis middle"))
    for i, (name, reference, live) in enumerate(rows):
        y = _ROW * i + 32
        shown = name if len(name) <= 17 else name[:16] + "…"
        parts.append(text(left - 8, y + 4, shown, "name end other"))
        bar = Markup('<rect class="bar student" x="{}" y="{}" width="{}" height="12"><title>{}</title></rect>')
        parts.append(
            bar.format(
                axis.at(0.0), y - 6, round(axis.at(live) - axis.at(0.0), 1), f"{name}: {live:.1f} % live, {reference:.1f} % reference"
            )
        )
        parts.append(line(axis.at(reference), y - 9, axis.at(reference), y + 9, "limit"))
    return svg(height, f"{title}: " + "; ".join(f"{n} {live:.1f} % live, {old:.1f} % reference" for n, old, live in rows), parts)
