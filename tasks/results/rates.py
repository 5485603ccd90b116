"""How many rows a second a stage works on after its start: what ``redistill estimate --rows`` extrapolates from.

It is no part of a stage's files, which are the same on every machine.
"""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass, field

from redistill.cluster.settings import REPLICAS, cluster_settings
from redistill.io.json import read_json, write_json
from tasks.paths import STATE

RATES = STATE / "rates.json"
_FEWEST_ROWS = 50
"""Fewer rows say more about the start than about the rate."""


@dataclass(frozen=True, slots=True)
class MeasuredRate:
    """``replicas``: how many worked side by side."""

    rows: int
    seconds: float
    replicas: int

    @property
    def seconds_a_row(self) -> float:
        """Of one replica."""
        return self.seconds / self.rows * self.replicas


@dataclass(slots=True)
class RateMeter:
    """Counts results from the first one, so that the start of an engine does not count."""

    stage: str
    _rows: int = -1
    _first_s: float = field(default_factory=time.monotonic)
    _last_s: float = 0.0

    def count(self) -> None:
        self._last_s = time.monotonic()
        if self._rows < 0:
            self._first_s = self._last_s
        self._rows += 1

    def remember(self) -> None:
        """Keep the rate, unless it is of too few rows, or of a number of replicas that nobody stated."""
        if self._rows < _FEWEST_ROWS or (cluster_settings() is not None and not os.environ.get(REPLICAS)):
            return
        settings = cluster_settings()
        rate = MeasuredRate(self._rows, round(self._last_s - self._first_s, 3), (settings and settings.replicas) or 1)
        write_json(RATES, {**(read_json(RATES) if RATES.is_file() else {}), self.stage: dataclasses.asdict(rate)})


def measured_rates() -> dict[str, MeasuredRate]:
    """The last measured rate of each stage."""
    return {stage: MeasuredRate(**rate) for stage, rate in (read_json(RATES) if RATES.is_file() else {}).items()}
