"""How often each rule for a cascade's threshold exceeds the disagreement that it promises, and what share the student may answer.

``python -m tests.bench.cascade_thresholds [--write]``. By simulation with fixed seeds, through the very rules that calibrate a cascade; ``--write`` puts
the tables into docs/cascade.md. On the example: ``python -m tests.bench.cascade_example``, in a project after a cycle.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from redistill.promotion.thresholds import learn_then_test
from redistill.statistics.shares import share_interval
from tests.bench.tables import Table, rewritten
from tests.bench.threshold_baselines import conformal, isotonic

DOC = Path(__file__).resolve().parents[2] / "docs" / "cascade.md"
DRAWS, LIMIT, DOUBT = 1000, 0.05, 0.1
Rule = Callable[[Sequence[float], Sequence[int]], int]
RULES: dict[str, Rule] = {
    "isotonic regression": lambda losses, cuts: isotonic(losses, cuts, LIMIT),
    "conformal risk control": lambda losses, cuts: conformal(losses, cuts, LIMIT),
    "learn then test": lambda losses, cuts: learn_then_test.rows_to_answer(losses, cuts, LIMIT, DOUBT),
    "learn then test, one of five scores": lambda losses, cuts: learn_then_test.rows_to_answer(losses, cuts, LIMIT, DOUBT / 5),
}


@dataclass(frozen=True)
class Population:
    """Requests whose scores are uniform on (0, 1); at score s the student disagrees with probability 1 / (1 + exp(slope · s - offset))."""

    offset: float
    slope: float

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """(N × 2) scores and disagreements, the surest row first."""
        scores_N = np.sort(rng.random(n))[::-1]
        return np.stack([scores_N, rng.random(n) < 1 / (1 + np.exp(self.slope * scores_N - self.offset))], axis=1)

    def risk(self, threshold: float) -> float:
        """The expected disagreement per request if every score above the threshold is answered: the integral of the logistic function."""

        def below(s: float) -> float:
            return -float(np.logaddexp(0.0, self.offset - self.slope * s)) / self.slope

        return below(1.0) - below(threshold)

    def best(self, limit: float) -> float:
        """The largest share that may be answered, by somebody who knows the population."""
        return 1.0 if self.risk(0.0) <= limit else 1.0 - float(brentq(lambda t: self.risk(t) - limit, 0.0, 1.0))


def population(disagreement: float, auroc: float) -> Population:
    """The population with this share of disagreement, whose score separates it this well."""

    def of(slope: float) -> Population:
        return Population(float(brentq(lambda offset: Population(offset, slope).risk(0.0) - disagreement, -60, 60)), slope)

    def separates(candidate: Population) -> float:
        s = (np.arange(4000) + 0.5) / 4000
        wrong = 1 / (1 + np.exp(candidate.slope * s - candidate.offset))
        right = 1 - wrong
        lower = np.cumsum(wrong) - wrong / 2  # the wrong rows below each score
        return float((right * lower).sum() / (right.sum() * wrong.sum()))

    return of(float(brentq(lambda slope: separates(of(slope)) - auroc, 0.05, 60)))


POPULATIONS = {
    "like the example: 40 % disagreement, AUROC 0.80": population(0.40, 0.80),
    "a weak score: 40 %, AUROC 0.65": population(0.40, 0.65),
    "a good student: 12 %, AUROC 0.85": population(0.12, 0.85),
}
ROWS = (100, 270, 1000)


def outcomes(truth: Population, n: int, draws: int, rng: np.random.Generator) -> dict[str, tuple[list[float], list[float]]]:
    """For each rule, the true risk and the share answered at the threshold that it chooses on each draw of ``n`` calibration rows."""
    drawn = [truth.draw(rng, n) for _ in range(draws)]
    found = {}
    for rule, choose in RULES.items():
        risks, shares = [], []
        for rows_N2 in drawn:
            answered = choose(rows_N2[:, 1].tolist(), range(1, n))
            threshold = float(rows_N2[answered, 0])
            risks.append(truth.risk(threshold) if answered else 0.0)
            shares.append(1.0 - threshold if answered else 0.0)
        found[rule] = (risks, shares)
    return found


def simulated() -> Table:
    """A minute of work, so the contract test looks only whether fewer draws agree with it."""
    rng, rows = np.random.default_rng(11), []
    for name, truth in POPULATIONS.items():
        for n in ROWS:
            for rule, (risks, shares) in outcomes(truth, n, DRAWS, rng).items():
                rows.append([name, f"{n:,}", rule, *cells(risks, shares), f"{100 * truth.best(LIMIT):.0f} %"])
    head = [
        "requests",
        "calibration rows",
        "rule",
        "threshold exceeds 5 %",
        "disagreement, mean",
        "answered, mean",
        "answered, at most possible",
    ]
    return Table(f"Thresholds from {DRAWS:,} draws of calibration rows, limit 5 % of all requests, doubt 10 %", head, rows)


def cells(risks: Sequence[float], shares: Sequence[float]) -> list[str]:
    """How often the limit is exceeded, with its 95 % interval, the mean risk, and the mean share answered."""
    over = sum(risk > LIMIT + 1e-12 for risk in risks)
    interval = share_interval(over, len(risks), 0.05)
    return [
        f"{100 * over / len(risks):.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})",
        f"{100 * float(np.mean(risks)):.1f} %",
        f"{100 * float(np.mean(shares)):.0f} %",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/cascade.md")
    arguments = parser.parse_args()
    table = simulated()
    if arguments.write:
        DOC.write_text(rewritten(DOC.read_text(encoding="utf-8"), [table]), encoding="utf-8")
    print(table.markdown())


if __name__ == "__main__":
    main()
