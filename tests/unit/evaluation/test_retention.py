"""``redistill.evaluation.retention``: student ÷ teacher by hand, and its paired interval by simulation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from redistill.errors import DataError
from redistill.evaluation.retention import agreement, retention
from redistill.evaluation.row_scores import row_scores
from redistill.evaluation.types import Outcome
from redistill.statistics.bootstrap import bootstrap_retention
from redistill.statistics.shares import share
from redistill.statistics.types import Interval

Counts = tuple[np.ndarray, np.ndarray]
DRAWS = 400


def outcome(row: int, response: str, tp: int, fp: int, fn: int, target: str = "x") -> Outcome:
    return Outcome(f"p{row}", f"d{row}", f"q{row}", "app", target, response, response == target, tp, fp, fn)


TEACHER = [outcome(0, "x", 2, 0, 0), outcome(1, "x", 1, 0, 0), outcome(2, "x", 3, 0, 0), outcome(3, "y", 1, 1, 1)]
STUDENT = [outcome(3, "y", 1, 1, 1), outcome(0, "x", 2, 0, 0), outcome(1, "z", 0, 1, 1), outcome(2, "x", 3, 0, 0)]


def test_by_hand_in_whatever_order() -> None:
    """Exact match 2 of 4 against 3 of 4; F1 12/16 against 14/16."""
    kept = retention(STUDENT, TEACHER, 200, 7)
    assert kept["exact_match"] is not None and kept["f1"] is not None
    assert kept["exact_match"].value == pytest.approx(2 / 3) and kept["f1"].value == pytest.approx(12 / 14)
    assert kept == retention(STUDENT[::-1], TEACHER, 200, 7)
    assert agreement(STUDENT, TEACHER) == share(3, 4)


def test_free_text_is_kept_by_chrf() -> None:
    """No letter is spelled as its reference, so exact match and F1 would say nothing; the ratio is that of the mean scores."""
    targets = ["we saw your card", "we saw the fee", "please call us"]
    teacher, student = (
        [outcome(i, f"{target} {end}", 0, 1, 1, target) for i, target in enumerate(targets)] for end in ("now", "in some other way")
    )
    kept = retention(student, teacher, 200, 7, free_text=True)
    ours, theirs = (np.mean(row_scores(outcomes, "chrf")) for outcomes in (student, teacher))
    assert kept.keys() == {"chrf"} and kept["chrf"] is not None
    assert kept["chrf"].value == pytest.approx(ours / theirs) and 0 < kept["chrf"].interval.low < kept["chrf"].value < 1


def test_equal_models_keep_all_and_a_teacher_without_a_right_row_gives_no_ratio() -> None:
    same = retention(TEACHER, TEACHER, 200, 7)
    assert all(s is not None and (s.value, s.interval) == (1.0, Interval(1.0, 1.0)) for s in same.values())
    lost = [dataclasses.replace(o, exact=False, true_positives=0) for o in TEACHER]
    assert retention(STUDENT, lost, 200, 7) == {"exact_match": None, "f1": None}


def test_other_rows_are_refused() -> None:
    for use in (lambda: retention(STUDENT[1:], TEACHER, 10, 7), lambda: agreement(STUDENT[1:], TEACHER)):
        with pytest.raises(DataError, match="1 rows are in one benchmark only"):
            use()


def test_what_both_find_difficult_cancels_out() -> None:
    """Two models that share their mistakes: the paired interval is far narrower than that of two independent sets of rows."""
    rng = np.random.default_rng(5)
    teacher = rng.random(500) < 0.6
    student = teacher & (rng.random(500) < 0.97)
    one = np.ones(500, int)
    paired = bootstrap_retention((student.astype(int), one), (teacher.astype(int), one), 2000, 7)
    apart = bootstrap_retention((rng.permutation(student).astype(int), one), (teacher.astype(int), one), 2000, 7)
    assert paired is not None and apart is not None and paired.value == pytest.approx(apart.value)
    assert paired.interval.high - paired.interval.low < 0.3 * (apart.interval.high - apart.interval.low)


def exact_match_of(rng: np.random.Generator, n: int) -> tuple[Counts, Counts]:
    """A teacher at 60 %, a student at 57 %, one of five rows discordant: retention 0.95."""
    kind = rng.choice(4, size=n, p=[0.485, 0.085, 0.115, 0.315])
    one = np.ones(n, int)
    return ((kind <= 1).astype(int), one), (np.isin(kind, (0, 2)).astype(int), one)


def f1_of(rng: np.random.Generator, n: int) -> tuple[Counts, Counts]:
    """Records of one to four fields: found with a chance of 0.9 times a row's ease by the teacher and 0.85 by the student, half of the missed ones invented."""
    fields, ease = rng.integers(1, 5, n), np.where(rng.random(n) < 0.5, 1.0, 0.6)

    def model(chance: float) -> Counts:
        tp = rng.binomial(fields, chance * ease)
        fp = rng.binomial(fields - tp, 0.5)
        return 2 * tp, tp + fp + fields

    return model(0.85), model(0.9)


def _expected_f1(chance: float) -> float:
    """Of many records: ease is 0.8 on average."""
    hit = 0.8 * chance
    return 2 * hit / (hit + 0.5 * (1 - hit) + 1)


@pytest.mark.parametrize(
    ("draw", "truth"), [(exact_match_of, 0.95), (f1_of, _expected_f1(0.85) / _expected_f1(0.9))], ids=["exact match", "F1"]
)
@pytest.mark.parametrize("n", [100, 500])
def test_the_interval_holds_the_truth_as_often_as_it_says(
    draw: Callable[[np.random.Generator, int], tuple[Counts, Counts]], truth: float, n: int
) -> None:
    """95 % is meant; a percentile bootstrap is known to fall short by a point or two, so 93 % is asked for, within what so many draws can tell."""
    rng, held = np.random.default_rng(13), 0
    for seed in range(DRAWS):
        score = bootstrap_retention(*draw(rng, n), 300, seed)
        assert score is not None
        held += score.interval.low <= truth <= score.interval.high
    assert held >= binom.ppf(0.001, DRAWS, 0.93), held / DRAWS
    assert held <= binom.ppf(0.999, DRAWS, 0.96), held / DRAWS
