"""How long student and teacher take for the same requests: timed in one process and in turns, so that a busy machine slows both.

Times from two processes cannot be compared: on a shared machine they differ by half, even for one model. So student and teacher respond to each request
one right after the other, and the result is the ratio of their times with its interval. Weights matter for time only through how many tokens they make
a model write, so each model writes a fixed number of tokens. What is timed is then an architecture, and all arms that have it share the result.

Source: Conover 1999, Practical Nonparametric Statistics, 3rd ed., section 3.2 (interval of a median by order statistics).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from redistill.errors import DataError
from redistill.io.digests import canonical_digest
from redistill.io.json import read_json
from redistill.runtime.energy import energy_joules
from redistill.statistics.types import Interval

CONFIDENCE = 0.95


FEWEST = 6
"""Fewer pairs give no interval of a median: even their smallest and largest lie on both sides of it in less than 95 % of the cases."""


BATCHES = 9
"""Batches that are timed; the interval of nine leaves out the fastest and the slowest."""


BATCH_ROWS = 16
"""Rows of a timed batch, as a small server forms it; its pace prices a request."""


_NOT_ARCHITECTURE = {
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "initializer_range",
    "use_cache",
}
"""Keys of a configuration that differ between checkpoints of one architecture. The Trainer switches ``use_cache`` off in what it saves; what
generates asks the generation settings, not this key."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A positive number with its 95 % interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one model. ``tokens`` is how many it wrote for each request; None for an endpoint, which decides that itself and is asked no batches.

    ``architecture`` is the digest of what was timed; of an endpoint, that of its lock.
    """

    architecture: str
    tokens: int | None
    request_s: tuple[float, ...]
    batch_s: tuple[float, ...] = ()
    joules_per_token: float | None = None

    def __post_init__(self) -> None:
        odd = [s for s in (*self.request_s, *self.batch_s) if not (math.isfinite(s) and s > 0)]
        if odd or not self.request_s:
            raise DataError(
                f"{f'{odd[0]} s is not a valid time' if odd else 'there are no times'}; run `dvc repro --single-item timing --force` again"
            )

    @property
    def pace(self) -> Estimate | None:
        """Seconds for a completion token in full batches; None where no batches were asked."""
        return scaled(median_of(self.batch_s), 1 / (BATCH_ROWS * self.tokens)) if self.batch_s and self.tokens else None

    def shown(self) -> dict[str, float | None]:
        """What a table shows: this model's own times. Two models are compared by their ratio."""
        ordered = sorted(self.request_s)
        return {
            "latency_p50_s": median(ordered),
            "latency_p95_s": ordered[math.ceil(0.95 * len(ordered)) - 1],
            "batch_p50_s": median(self.batch_s) if self.batch_s else None,
            "tokens_per_s": None if self.pace is None else 1 / self.pace.value,
            "joules_per_token": self.joules_per_token,
        }


@dataclass(frozen=True, slots=True)
class Timing:
    """Models that were timed in turns: entry i of each one's times is the same request, taken one right after the other.

    ``backend`` is what ran student and teacher, with the type that was computed in, or ``endpoint`` for the teacher.
    """

    backend: str
    student: Times
    teacher: Times
    linear: Times | None = None

    def __post_init__(self) -> None:
        if len(self.student.request_s) != len(self.teacher.request_s):
            raise DataError("student and teacher were timed on different requests; run `dvc repro --single-item timing --force` again")

    @property
    def request_ratio(self) -> Estimate:
        """Student ÷ teacher of one request at a time."""
        return ratio(self.student.request_s, self.teacher.request_s)

    @property
    def batch_ratio(self) -> Estimate | None:
        """Student ÷ teacher of full batches; None for a teacher that was asked none."""
        return ratio(self.student.batch_s, self.teacher.batch_s) if self.teacher.batch_s else None

    @property
    def student_pace(self) -> Estimate:
        """Seconds of the student for a completion token in full batches: the teacher's, times the ratio, where there is one."""
        student, teacher, batches = self.student.pace, self.teacher.pace, self.batch_ratio
        if student is None:
            raise DataError("the timing has no batches for the student; run `dvc repro --single-item timing --force` again")
        if teacher is None or batches is None:
            return student
        return scaled(batches, teacher.value * (self.teacher.tokens or 1) / (self.student.tokens or 1))

    def of(self, who: str) -> Times | None:
        """The times of a report's arm: all students have one architecture. The raw teacher with examples is not timed."""
        return {"teacher": self.teacher, "linear": self.linear, "prompted": None}.get(who, self.student)


def median_of(values: Sequence[float]) -> Estimate:
    """The median with its 95 % interval from order statistics: exact for every distribution, and not moved by single slow requests.

    With fewer than ``FEWEST`` values, the interval is from 0 to infinity.
    """
    from scipy.stats import binom

    ordered = sorted(values)
    # The largest k with P(fewer than k of n lie below the median) at most a half of what may be missed.
    k = int(binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5))
    if binom.cdf(k, len(ordered), 0.5) <= (1 - CONFIDENCE) / 2:
        k += 1
    interval = Interval(ordered[k - 1], ordered[-k]) if k > 0 else Interval(0.0, math.inf)
    return Estimate(median(ordered), interval)


def ratio(student_s: Sequence[float], teacher_s: Sequence[float]) -> Estimate:
    """The median ratio of times that were taken in pairs."""
    return median_of([s / t for s, t in zip(student_s, teacher_s, strict=True)])


def scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(factor * estimate.value, Interval(factor * estimate.interval.low, factor * estimate.interval.high))


def in_turns(
    runs: Mapping[str, Callable[[Any], object]], requests: Sequence[Any], progress: Callable[[], None] | None = None
) -> tuple[dict[str, list[float]], dict[str, float | None]]:
    """Seconds of every request with each of the ``runs``, in the order of the requests, and the joules that each used over all of them.

    They take turns in going first, so that the order favours none of them. Each runs the first request once before, untimed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    joules: dict[str, float | None] = dict.fromkeys(runs, 0.0)
    names = list(runs)
    for name in names:
        runs[name](requests[0])
    for i, request in enumerate(requests):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            before, start = energy_joules(), time.perf_counter()
            runs[name](request)
            seconds[name].append(time.perf_counter() - start)
            used, so_far = _used(before, energy_joules()), joules[name]
            joules[name] = None if used is None or so_far is None else so_far + used
        if progress is not None:
            progress()
    return seconds, joules


def evenly_spaced(count: int, rows: int) -> list[int]:
    """``count`` of ``rows`` rows by number, evenly spaced; some of them again where there are fewer."""
    return [i * rows // count % rows if count <= rows else i % rows for i in range(count)]


def _used(before: float | None, after: float | None) -> float | None:
    """None where the counter started again at 0 in between: the energy is then not known."""
    return None if before is None or after is None or after < before else after - before


def architecture(checkpoint: Path) -> str:
    """Digest of what decides how long a checkpoint takes for a token: its configuration, without what differs between trained copies."""
    config = {k: v for k, v in read_json(checkpoint / "config.json").items() if k not in _NOT_ARCHITECTURE}
    return canonical_digest(config)


def timing_to_json(timing: Timing) -> dict[str, Any]:
    """Samples, and beside them the ratios with their intervals, for readers of the file."""
    batches = timing.batch_ratio
    ratios = {"request": dataclasses.asdict(timing.request_ratio), "batch": None if batches is None else dataclasses.asdict(batches)}
    return {**dataclasses.asdict(timing), "ratio": ratios}


def timing_from_json(tree: dict[str, Any]) -> Timing:
    """A Timing from its JSON form; ratios are computed again from the samples."""
    from pydantic import TypeAdapter

    return TypeAdapter(Timing).validate_python({k: v for k, v in tree.items() if k != "ratio"})
