"""What every plot is made of: axes, lines and texts as inline SVG.

Everything that comes from outside passes ``Markup.format``, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 420
"""Units: small enough to be readable on a phone unscaled, and two plots stand side by side on a desk."""


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


def upright(axis: Axis, left: float, right: float, title: str) -> list[Markup]:
    grid = [line(left, axis.at(t), right, axis.at(t), "grid") for t in axis.ticks()]
    ticks = [text(left - 6, axis.at(t) + 4, f"{t:,.6g}", "tick end") for t in axis.ticks()]
    return [*grid, *ticks, text(0, 12, title, "axis")]


def level(axis: Axis, base: float, height: float, title: str) -> list[Markup]:
    marks = [line(axis.at(t), base, axis.at(t), base + 4, "grid") for t in axis.ticks()]
    ticks = [text(axis.at(t), base + 17, f"{t:,.6g}", "tick middle") for t in axis.ticks()]
    return [*marks, *ticks, text((axis.start + axis.end) / 2, height - 6, title, "axis middle")]


def marker(x: float, y: float, role: str, description: str) -> Markup:
    """A diamond for the teacher, a disc for the candidate, rings for the rest: different without colour too."""
    diamond, circle = Markup('<path d="M{} {}l5 5l-5 5l-5-5z"/>'), Markup('<circle cx="{}" cy="{}" r="{}"/>')
    shape = diamond.format(x, round(y - 5, 1)) if role == "teacher" else circle.format(x, y, 4.5 if role == "student" else 3.5)
    return Markup('<g class="marker {}"><title>{}</title>{}</g>').format(role, description, shape)


def line(x1: float, y1: float, x2: float, y2: float, role: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(role, x1, y1, x2, y2)


def text(x: float, y: float, text: str, role: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(" ".join(role.split()), x, round(y, 1), text)


def svg(height: float, description: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="plot" role="img" viewBox="0 0 {} {}" aria-label="{}">').format(WIDTH, height, description)
    return head + Markup("").join(parts) + Markup("</svg>")
