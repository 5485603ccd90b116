"""Is the mean of a stream above its limit? A test that may be looked at after every observation.

Observations lie in [0, 1], such as "the student answered otherwise than the teacher". Capital of 1 is bet against the null hypothesis "the mean is ``limit``
or less": an observation x multiplies what is bet with the share f by 1 + f (x − limit) / limit. Under the null no strategy is expected to gain, whatever
came before, so the chance that the capital ever reaches 1/alpha is at most alpha (Ville's inequality). It holds for any length of the stream and any rule
by which somebody looks.

The capital is divided over a grid of f, each of which is best for another mean above the limit. It is also divided over time: a part is bet from the start,
and the rest is kept back and bet later, in parts. Otherwise a long quiet time would use up the capital before the day on which the mean rises.

Source: Waudby-Smith & Ramdas 2024, Journal of the Royal Statistical Society B 86:1-27 (capital process); Ramdas, Grünwald, Vovk & Shafer 2023, Statistical
Science 38:576-601 (e-processes; a mixture of them is one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_BETS = np.geomspace(0.01, 0.8, 10)
"""The shares f. For a mean q above the limit m, the best is (q − m) / (1 − m)."""
_PERIOD = 100
"""Observations after which the next part of the capital is bet."""


@dataclass(frozen=True, slots=True)
class EProcess:
    """The state after ``n`` observations: ``capital`` bet with each share f, ``total`` of the observations, and the ``largest`` capital so far."""

    limit: float
    n: int = 0
    total: float = 0.0
    capital: tuple[float, ...] = (0.0,) * len(_BETS)
    largest: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.limit < 1.0:
            raise ValueError(f"a limit of {self.limit} is not between 0 and 1")

    @property
    def mean(self) -> float:
        """Of the observations so far; 0 where there are none."""
        return self.total / self.n if self.n else 0.0

    def after(self, observation: float) -> EProcess:
        """The state with one more observation.

        Raises:
            ValueError: it is not in [0, 1].
        """
        if not 0.0 <= observation <= 1.0:
            raise ValueError(f"an observation of {observation} is not in [0, 1]")
        capital = advanced(np.array(self.capital), observation, self.n, self.limit)
        largest = max(self.largest, float(capital.sum()) + kept_back(self.n))
        return EProcess(self.limit, self.n + 1, self.total + observation, tuple(capital.tolist()), largest)

    def rejects(self, alpha: float) -> bool:
        """Whether the mean was shown to be above the limit, at any time so far; wrong with a chance of at most ``alpha``."""
        return self.largest >= 1.0 / alpha

    @property
    def p_value(self) -> float:
        """Valid at any time: the smallest ``alpha`` at which the process rejects."""
        return min(1.0, 1.0 / self.largest)


def advanced(capital: np.ndarray, observation: float | np.ndarray, n: int, limit: float) -> np.ndarray:
    """The capital of each bet (last axis) after observation number ``n``, counted from 0; other axes are streams of their own."""
    started = capital + _part(n) / len(_BETS)
    gain = (np.asarray(observation)[..., None] - limit) / limit
    # So much evidence does not need more digits, and an endless stream must not overflow.
    return np.asarray(np.minimum(started * (1.0 + _BETS * gain), 1e30))


def kept_back(n: int) -> float:
    """The share of the first capital that is not bet yet at observation number ``n``."""
    return 1.0 / (n // _PERIOD + 2)


def _part(n: int) -> float:
    """The share of the first capital that is bet from observation number ``n`` on: 1/2, then 1/6, 1/12 and so on after each period."""
    turn, rest = divmod(n, _PERIOD)
    return 1.0 / ((turn + 1) * (turn + 2)) if rest == 0 else 0.0


def observations_needed(limit: float, mean: float, alpha: float) -> int:
    """About how many observations with this mean reject at ``alpha``, if the first were made at the start: what a guard should be able to see.

    Raises:
        ValueError: the mean is not above the limit.
    """
    if not mean > limit:
        raise ValueError(f"a mean of {mean} is not above the limit of {limit}, so no number of observations is expected to show it")
    growth = float(np.max(mean * np.log1p(_BETS * (1.0 - limit) / limit) + (1.0 - mean) * np.log1p(-_BETS)))
    return math.ceil(math.log(2 * len(_BETS) / alpha) / growth)
