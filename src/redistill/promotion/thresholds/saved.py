"""A calibration as JSON, and back."""

from __future__ import annotations

import dataclasses
from typing import Any

from redistill.promotion.thresholds.types import CascadeCalibration


def calibration_to_json(calibration: CascadeCalibration) -> dict[str, Any]:
    return dataclasses.asdict(calibration)


def calibration_from_json(tree: dict[str, Any]) -> CascadeCalibration:
    from pydantic import TypeAdapter

    return TypeAdapter(CascadeCalibration).validate_python(tree)
