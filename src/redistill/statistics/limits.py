"""The values that a statistic accepts, and why."""

from __future__ import annotations

import math
from statistics import NormalDist

from redistill.errors import ConfigError, DataError, RedistillError

_NORMAL = NormalDist()


_LIMITS: dict[str, tuple[float, float, type[RedistillError], str]] = {
    "margin": (0.0, 0.999, ConfigError, "it is a loss as a share of the rows, 0.05 for 5 points"),
    "alpha": (1e-9, 0.5, ConfigError, "it is the chance of a wrong promotion"),
    "power": (0.5, 0.999999, ConfigError, "it is the chance that an equal candidate passes"),
    "resamples": (1, math.inf, ConfigError, "raise benchmark.bootstrap"),
    "rows": (2, math.inf, DataError, "a paired comparison needs at least 2 rows; benchmark more held-out rows"),
    "discordance": (0.0, 1.0, DataError, "it is the share of rows on which exactly one of the two is right"),
}


def check_limits(**values: float) -> None:
    for name, value in values.items():
        low, high, error, why = _LIMITS[name]
        if not low <= value <= high:
            raise error(f"{name}={value:g} must lie in [{low:g}, {high:g}]: {why}")
