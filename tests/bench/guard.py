"""The guard of live traffic: how often it gives a false alarm, and after how many shadowed requests it sees that the promise is broken.

``python -m tests.bench.guard [--write]``. By simulation with fixed seeds, through the process that guards; ``--write`` puts the table into docs/cascade.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import binom

from redistill.statistics.e_process import advanced, kept_back
from redistill.statistics.shares import share
from tests.bench.tables import Table, rewritten

DOC = Path(__file__).resolve().parents[2] / "docs" / "cascade.md"
MARK, STREAMS, STEPS, LIMIT, ALPHA, CHANGE = "guard", 2000, 20_000, 0.05, 0.05, 5000
_BETS = 10
CASES = {
    "3 % throughout": (0.03, 0.03),
    "5 % throughout, the promise": (LIMIT, LIMIT),
    "7.5 % from the start": (0.075, 0.075),
    "10 % from the start": (0.10, 0.10),
    "20 % from the start": (0.20, 0.20),
    "3 %, then 10 %": (0.03, 0.10),
    "3 %, then 20 %": (0.03, 0.20),
}
"""Disagreement before and from request number ``CHANGE`` on."""


def first_alarms(before: float, after: float, streams: int = STREAMS, steps: int = STEPS, seed: int = 3) -> np.ndarray:
    """For each stream the request at which the process first reaches 1/alpha, or ``steps`` if it does not."""
    rng = np.random.default_rng(seed)
    capital, first = np.zeros((streams, _BETS)), np.full(streams, steps)
    for n in range(steps):
        capital = advanced(capital, (rng.random(streams) < (before if n < CHANGE else after)).astype(float), n, LIMIT)
        crossed = capital.sum(-1) + kept_back(n) >= 1 / ALPHA
        first = np.where(crossed & (first == steps), n, first)
    return first


def repeated_test(streams: int = STREAMS, steps: int = STEPS, every: int = 100, seed: int = 3) -> float:
    """Share of streams at the limit in which an exact binomial test at 5 %, made again after every hundred requests, gives an alarm at any time."""
    rng = np.random.default_rng(seed)
    counts = rng.binomial(every, LIMIT, size=(streams, steps // every)).cumsum(axis=1)
    numbers = every * np.arange(1, steps // every + 1)
    return float((binom.sf(counts - 1, numbers, LIMIT) <= ALPHA).any(axis=1).mean())


def table() -> Table:
    rows = []
    for name, (before, after) in CASES.items():
        first = first_alarms(before, after)
        begin = CHANGE if before != after else 0
        early, seen = int((first < begin).sum()), first[(first >= begin) & (first < STEPS)] - begin
        alarms = share(early + len(seen), STREAMS)
        span = f"{100 * alarms.value:.1f} % ({100 * alarms.interval.low:.1f} to {100 * alarms.interval.high:.1f})"
        delay = f"{np.median(seen):,.0f} / {np.quantile(seen, 0.95):,.0f}" if after > LIMIT else "–"
        rows.append([name, span, f"{100 * early / STREAMS:.1f} %" if begin else "–", delay])
    head = ["disagreement", f"alarm within {STEPS:,} requests", "before the change", "requests until the alarm, median / 95 %"]
    return Table(
        f"{STREAMS:,} streams for each row, a promise of {100 * LIMIT:g} %, alpha {ALPHA:g}; the change comes at request {CHANGE:,}",
        head,
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/cascade.md")
    made, usual = table(), repeated_test()
    print(made.markdown())
    print(f"\nan exact test after every hundred requests, 5 % throughout: an alarm in {100 * usual:.1f} % of the streams")
    if parser.parse_args().write:
        DOC.write_text(rewritten(DOC.read_text(encoding="utf-8"), [made], MARK), encoding="utf-8")


if __name__ == "__main__":
    main()
