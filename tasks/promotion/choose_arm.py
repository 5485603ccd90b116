"""Resolves ``promote.arm: auto`` to the arm that calibration chooses."""

from __future__ import annotations

from dataclasses import replace

from redistill.errors import ConfigError
from redistill.io.json import read_json
from redistill.params import Params
from redistill.promotion.params import AUTO
from redistill.promotion.thresholds.choose_arm import answered, best_arm
from redistill.promotion.thresholds.saved import calibration_from_json
from redistill.promotion.thresholds.types import CascadeCalibration
from tasks.paths import ARTIFACTS


def with_arm(params: Params, *, needed: bool = False) -> Params:
    """The params with the chosen arm in the place of ``auto``. Before there is a calibration, the last arm of ``finetune.arms`` stands for it.

    Raises:
        ConfigError: no arm was calibrated, but the choice is ``needed``.
    """
    if params.promote.arm != AUTO:
        return params
    calibrations = _calibrations(params)
    if not calibrations and needed:
        raise ConfigError(
            "promote.arm: auto chooses by calibration, but no arm was calibrated; give a source a share of the split `calibration`, or name an arm"
        )
    arm = best_arm(calibrations) if calibrations else list(params.finetune.arms)[-1]
    return replace(params, promote=replace(params.promote, arm=arm))


def chosen_arm(params: Params) -> Params:
    """The same in a cycle, which says what was chosen and why."""
    chosen = with_arm(params, needed=True)
    if params.promote.arm == AUTO:
        shares = {arm: 100 * answered(calibration) for arm, calibration in _calibrations(params).items()}
        listed = ", ".join(f"{arm} {share:.1f} %" for arm, share in shares.items())
        print(f"arm {chosen.promote.arm} is the candidate: of the calibration rows, the cascades answer {listed}")
    return chosen


def _calibrations(params: Params) -> dict[str, CascadeCalibration]:
    files = {arm: ARTIFACTS / "calibration" / arm / "calibration.json" for arm in params.finetune.arms}
    return {arm: calibration_from_json(read_json(file)) for arm, file in files.items() if file.is_file()}
