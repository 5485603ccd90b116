"""The rules for a cascade's threshold on the calibration rows of a project: how often each exceeds its limit, and what share is answered.

``python -m tests.bench.cascade_example [ARM]`` in a project after a cycle. The calibration rows stand for all requests: 1,000 times, as many rows are drawn from
them with replacement, a threshold is chosen, and its disagreement on all of them is what it truly costs.
"""

from __future__ import annotations

import sys

import numpy as np

from redistill.io.parquet import read_records
from redistill.params import load_params
from redistill.promotion.thresholds.curve import curve
from redistill.promotion.thresholds.types import CalibrationRow
from tests.bench.cascade_thresholds import DRAWS, LIMIT, RULES, cells
from tests.bench.tables import Table


def resampled(rows: list[CalibrationRow], score: str) -> Table:
    scores, losses = np.array([row.confidence(score) for row in rows]), np.array([row.disagreement for row in rows])
    rng, n = np.random.default_rng(12), len(rows)
    results: dict[str, tuple[list[float], list[float]]] = {rule: ([], []) for rule in RULES}
    for _ in range(DRAWS):
        drawn = rng.integers(0, n, n)
        sample = curve(scores[drawn].tolist(), losses[drawn].tolist())
        for rule, choose in RULES.items():
            answered = choose(sample.losses, sample.cuts[:-1])
            above = scores > sample.thresholds[sample.cuts.index(answered)] if answered else np.zeros(n, dtype=bool)
            results[rule][0].append(float(losses[above].sum()) / n)
            results[rule][1].append(float(above.mean()))
    whole = curve(scores.tolist(), losses.tolist())
    best = max((cut for cut, risk in zip(whole.cuts, whole.risks(), strict=True) if risk <= LIMIT), default=0) / n
    head = ["score", "rule", "threshold exceeds 5 %", "disagreement, mean", "answered, mean", "answered, at most possible"]
    lines = [[score, rule, *cells(risks, shares), f"{100 * best:.0f} %"] for rule, (risks, shares) in results.items()]
    return Table(f"On the example: {DRAWS:,} draws of {n} calibration rows", head, lines)


def main() -> None:
    from tasks.stages.calibrate import CALIBRATION

    arm = sys.argv[1] if len(sys.argv) > 1 else load_params().promote.arm
    print(resampled(read_records(CALIBRATION / arm / "rows.parquet", CalibrationRow), "sum_logprob").markdown())


if __name__ == "__main__":
    main()
