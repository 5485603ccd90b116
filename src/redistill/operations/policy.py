"""What a new teacher must be asked again: nothing, the slices that moved, or everything.

A slice stays with the completions of the earlier teacher only if the measurements show that the new teacher says the same there. Where they show
neither, it is asked again: to pay for a slice is better than to train on what the teacher would not say any more. After some changes everything is
asked again, because small differences that each stay below the limit add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from redistill.operations.params import ScheduleParams
from redistill.statistics.types import Interval

Measure = Literal["disagreement", "kl_nats"]
"""The share of fixed prompts whose completions differ, or KL(old ‖ new) in nats a token on completions of the old teacher."""


@dataclass(frozen=True, slots=True)
class SliceShift:
    """How much a slice moved, with a 95 % interval over its rows."""

    slice: str
    measure: Measure
    rows: int
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class ReaskPlan:
    """``kept`` are the slices that stay with the earlier teacher's completions."""

    action: Literal["keep", "slices", "all"]
    kept: tuple[str, ...]
    reasons: tuple[str, ...]


def plan(
    shifts: Sequence[SliceShift], slices: Sequence[str], changes: int, params: ScheduleParams, why_all: str | None = None
) -> ReaskPlan:
    """The plan for all ``slices`` of the project. ``changes`` counts teacher changes since everything was asked, this one included.

    ``why_all`` is a reason why nothing may stay with the earlier teacher.
    """
    if why_all is not None:
        return ReaskPlan("all", (), (f"everything is asked again: {why_all}",))
    if changes >= params.reask_everything_every:
        return ReaskPlan("all", (), (f"everything is asked again at every {params.reask_everything_every}th change of the teacher",))
    limits: Mapping[Measure, float] = {"disagreement": params.reask_disagreement, "kl_nats": params.reask_kl_nats}
    by_slice = {shift.slice: shift for shift in shifts}
    kept, reasons = [], []
    for name in slices:
        shift = by_slice.get(name)
        if shift is None:
            reasons.append(f"slice {name or 'none'}: not measured, so it is asked again")
            continue
        limit = limits[shift.measure]
        stays = shift.interval.high < limit
        kept += [name] if stays else []
        reasons.append(_sentence(shift, limit, stays))
    action: Literal["keep", "slices", "all"] = "keep" if len(kept) == len(slices) else "slices" if kept else "all"
    return ReaskPlan(action, tuple(kept), tuple(reasons))


def _sentence(shift: SliceShift, limit: float, stays: bool) -> str:
    what = "of the canaries differ" if shift.measure == "disagreement" else "nats a token between old and new"
    low, high, scale = shift.interval.low, shift.interval.high, 100.0 if shift.measure == "disagreement" else 1.0
    unit = " %" if shift.measure == "disagreement" else ""
    verdict = "stays with the earlier completions" if stays else "is asked again"
    numbers = f"{scale * shift.value:.3g}{unit} {what} (95 % interval {scale * low:.3g} to {scale * high:.3g}, {shift.rows} rows)"
    return f"slice {shift.slice or 'none'}: {numbers}, limit {scale * limit:g}{unit}: it {verdict}"
