"""Which arm is the candidate where ``promote.arm`` is ``auto``: calibration rows decide, never held-out rows."""

from __future__ import annotations

from collections.abc import Mapping

from redistill.promotion.thresholds.types import CascadeCalibration


def best_arm(calibrations: Mapping[str, CascadeCalibration]) -> str:
    """The arm whose cascade answers the largest share of the calibration rows; if two answer as much, the one that agrees with the teacher more often.

    The promise of ``route.doubt`` is that of one calibration. If the best of A arms is taken, the chance that its threshold is too low is at most A times that.
    """
    return max(calibrations, key=lambda arm: (answered(calibrations[arm]), calibrations[arm].agreement))


def answered(calibration: CascadeCalibration) -> float:
    """The share that the chosen cascade answers; 0 without one."""
    if calibration.cascade is None:
        return 0.0
    return next(curve.answered for curve in calibration.curves if curve.score == calibration.cascade.score)
