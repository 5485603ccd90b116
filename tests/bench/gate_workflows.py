"""What people do between two decisions, and what it does to the chance that an inferior system is ever promoted on one held-out set.

Each workflow is simulated twice: with held-out rows that everyone sees, and a decision each night at the level that ``redistill`` gave before rows were
sealed (an equal share of alpha for each of ten looks to every set of rows); and as it is now, where people see monitor rows and the verdict, and the level
follows ``redistill.promotion.alpha_spending``. Every system is truly inferior by exactly the margin, which is the worst case.

What decides is the score test of ``redistill.statistics``. Rows are drawn for 10,000 held-out sets at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from redistill.promotion.alpha_spending import left_after, level_of, waits_for
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Look
from redistill.statistics.paired_counts import PairedCounts, score_test
from redistill.statistics.shares import share_interval
from tests.bench.tables import Table

DRAWS, NIGHTS, N, MONITOR = 10_000, 100, 500, 270
MARGIN, DISCORDANCE = 0.05, 0.20
PARAMS = PromoteParams(alpha_per_heldout=0.05, looks_per_heldout=2)
_TEN = 0.005
"""The level of each of ten looks, before."""

Signs = np.ndarray
"""Shape [draws, rows]: 1 where only the candidate is right, -1 where only the teacher is, else 0."""


@cache
def _p(n: int, only_candidate: int, only_teacher: int) -> float:
    return score_test(PairedCounts(n, only_candidate, only_teacher), MARGIN)


def p_values(signs: Signs) -> np.ndarray:
    """Of the score test, for each draw."""
    n, wins, losses = signs.shape[1], (signs > 0).sum(1), (signs < 0).sum(1)
    return np.array([_p(n, int(b), int(c)) for b, c in zip(wins, losses, strict=True)])


def rows(rng: np.random.Generator, n: int, loss: float = MARGIN, discordance: float = DISCORDANCE, draws: int = DRAWS) -> Signs:
    """Outcomes of a system that truly loses ``loss`` to its teacher."""
    u = rng.random((draws, n))
    return np.where(u < (discordance - loss) / 2, 1, np.where(u < discordance, -1, 0)).astype(np.int8)


def improved(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each night three tenths of the rows get a new outcome, and the new student is kept where it looks better on what the person sees.

    Returns whether an inferior student was ever promoted, seeing held-out rows, and seeing monitor rows.
    """
    seen = [rows(rng, N), rows(rng, MONITOR)]
    sealed = rows(rng, N)
    ever = [np.zeros(DRAWS, bool), np.zeros(DRAWS, bool)]
    left = PARAMS.alpha_per_heldout
    for look in range(NIGHTS):
        level = level_of(left, PARAMS)
        if look < 10:
            ever[0] |= p_values(seen[0]) <= _TEN
        if level:
            ever[1] |= p_values(sealed) <= level
            left = left_after(left, level, 1, None)
        elif look >= 10:
            break
        for which, board in enumerate(seen):
            new = _mutated(rng, board)
            better = new.sum(1) > board.sum(1)
            board[better] = new[better]
            if which == 1:
                other = _mutated(rng, sealed)
                sealed[better] = other[better]
    return ever[0], ever[1]


def _mutated(rng: np.random.Generator, signs: Signs) -> Signs:
    return np.where(rng.random(signs.shape) < 0.3, rows(rng, signs.shape[1]), signs)


def best_of_three(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three students. Before, the one that looked best on the held-out rows was judged, once, at 0.05. Now the one that looks best on the monitor rows is judged
    first, and then the other two.
    """
    held, shown = ([rows(rng, n) for _ in range(3)] for n in (N, MONITOR))
    best = np.argmax([s.sum(1) for s in held], axis=0)
    before = np.choose(best, [p_values(s) for s in held]) <= 0.05
    chosen = np.argmax([s.sum(1) for s in shown], axis=0)
    ever, left = np.zeros(DRAWS, bool), PARAMS.alpha_per_heldout
    order = [chosen, *((chosen + i) % 3 for i in (1, 2))]
    p = [p_values(s) for s in held]
    for which in order:  # all three are asked, one after the other
        level = level_of(left, PARAMS)
        ever |= np.choose(which, p) <= level
        left = left_after(left, level, 1, None)
    return before, ever


def relabelled(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """After a hold, five rows are labelled again, as the student said, and the student is judged again.

    Before, the plan listed held-out rows on which only the teacher was right, and other labels were another set with a new alpha. Now people do not know which
    rows these are, so they take the first five, and the set keeps its budget.
    """
    signs = rows(rng, N)
    listed, unknown, left = signs.copy(), signs.copy(), PARAMS.alpha_per_heldout
    for draw in range(DRAWS):
        listed[draw, np.flatnonzero(signs[draw] < 0)[:5]] = 1
    unknown[:, :5] = np.where(signs[:, :5] < 0, 1, signs[:, :5])
    before, after = (p_values(signs) <= 0.05) | (p_values(listed) <= 0.05), np.zeros(DRAWS, bool)
    for labels in (signs, unknown):
        level = level_of(left, PARAMS)
        after |= p_values(labels) <= level
        left = left_after(left, level, 1, None)
    return before, after


def _growing(rng: np.random.Generator, *, unchanged: bool) -> tuple[np.ndarray, np.ndarray]:
    """One row more each night: another set with a new alpha before, while now added rows give nothing back."""
    signs = rows(rng, N + NIGHTS)
    before, after = np.zeros(DRAWS, bool), np.zeros(DRAWS, bool)
    left, looks = PARAMS.alpha_per_heldout, list[Look]()
    for n in range(N, N + NIGHTS):
        if not unchanged and n > N:
            signs = rows(rng, N + NIGHTS)
        p = p_values(signs[:, :n])
        before |= p <= _TEN
        if unchanged and waits_for(looks, "system", n) is not None:
            continue
        if level := level_of(left, PARAMS):
            after |= p <= level
            left = left_after(left, level, 1, None)
            looks.append(Look("h", 1, "k", "c", level, level, False, "hold", "", "", "", left, "decision", "system", n))
    return before, after


def grown(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One row more each night, and another student each night."""
    return _growing(rng, unchanged=False)


def grown_unchanged(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One row more each night, and the same student."""
    return _growing(rng, unchanged=True)


def _sequences(rng: np.random.Generator, cascade_loss: float, student_loss: float) -> np.ndarray:
    """A new cascade and its student each night, judged in a fixed sequence: whether an inferior one was ever promoted."""
    left, ever = np.full(DRAWS, PARAMS.alpha_per_heldout), np.zeros(DRAWS, bool)
    for _ in range(12):
        level = left / PARAMS.looks_per_heldout
        cascade = p_values(rows(rng, N, cascade_loss, DISCORDANCE / 2)) <= level
        student = cascade & (p_values(rows(rng, N, student_loss)) <= level)
        promoted = np.where(student, 1, np.where(cascade, 0, -1))
        ever |= (student & (student_loss >= MARGIN)) | (cascade & ~student & (cascade_loss >= MARGIN))
        left = np.where(promoted == 1, level, (left - level) / 2)
    return ever


WORKFLOWS: tuple[tuple[str, str, Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]], ...] = (
    ("a student is improved each night by what the report shows", "ten looks at 0.005", improved),
    ("the best of three arms is chosen, then the others are asked too", "one look at 0.05", best_of_three),
    ("five rows are labelled again after a hold, before those that the plan listed", "two looks at 0.05", relabelled),
    ("one held-out row more each night, another student each night", "a new alpha each night", grown),
    ("one held-out row more each night, the same student", "a new alpha each night", grown_unchanged),
)


def _rate(ever: np.ndarray) -> str:
    interval = share_interval(int(ever.sum()), ever.size, 0.05)
    return f"{100 * ever.mean():.1f} % ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


def table() -> Table:
    """Every workflow, before and now."""
    found = []
    for seed, (name, rule, workflow) in enumerate(WORKFLOWS, start=21):
        before, now = workflow(np.random.default_rng(seed))
        found.append([name, rule, _rate(before), _rate(now)])
    for seed, (name, losses) in enumerate(
        (
            ("a cascade and its student, both inferior, new each night", (MARGIN, MARGIN)),
            ("an equal cascade with an inferior student, new each night", (0.0, MARGIN)),
        ),
        start=31,
    ):
        found.append([name, "–", "–", _rate(_sequences(np.random.default_rng(seed), *losses))])
    head = ["workflow", "rule before", "held-out rows open, before", "sealed, now"]
    title = (
        f"Chance that a system which is inferior by the margin is ever promoted on one held-out set (n = {N}, discordance "
        f"{100 * DISCORDANCE:g} %, {DRAWS:,} sets, up to {NIGHTS} nights; 95 % interval)"
    )
    return Table(title, head, found)


if __name__ == "__main__":
    print(table().markdown())
