"""``redistill.statistics.paired_counts`` against published intervals, brute-force likelihoods, exact enumeration and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
from scipy.stats import binomtest, norm

from redistill.errors import ConfigError, DataError
from redistill.statistics.bootstrap import bootstrap_f1, bootstrap_retention
from redistill.statistics.paired_counts import (
    PairedCounts,
    difference_interval,
    minimum_detectable_effect,
    paired_counts,
    power,
    rows_needed,
    score_test,
)
from redistill.statistics.shares import holm, share, share_interval, share_rows_needed, share_test
from redistill.statistics.types import Interval

TABLES = [(44, 0, 1), (32, 9, 3), (21, 1, 7), (200, 12, 20), (300, 40, 41), (50, 0, 0), (10, 10, 0), (10, 0, 10), (10, 5, 5), (2, 1, 0)]
PUBLISHED = [
    pytest.param((44, 0, 1), 0.10, (-0.096, 0.037), id="contact lens disinfection, Tango 1998"),
    pytest.param((32, 9, 3), 0.05, (-0.027, 0.390), id="Tango's interval as R's ratesci tests it"),
    pytest.param((21, 1, 7), 0.05, (-0.517, -0.026), id="airway hyper-responsiveness, Fagerland et al. 2014"),
]


def brute_force_z(n: int, b: int, c: int, null: float) -> float:
    """Tango's z with the constrained estimate found by maximising the trinomial likelihood numerically."""
    low, high = max(0.0, -null), (1.0 - null) / 2.0

    def loss(q: float) -> float:
        cells = ((b, q + null), (c, q), (n - b - c, 1.0 - 2.0 * q - null))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    q = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    best = min((low, q, high), key=loss)
    return (b - c - n * null) / math.sqrt(n * (2.0 * best + null - null * null))


def simulated_pass_rate(n: int, discordance: float, difference: float, margin: float, alpha: float, trials: int, seed: int) -> float:
    b, c = (discordance + difference) / 2, (discordance - difference) / 2
    draws = np.random.default_rng(seed).multinomial(n, [b, c, 1 - b - c], size=trials)
    tables, times = np.unique(draws, axis=0, return_counts=True)
    passes = [score_test(PairedCounts(n, int(t[0]), int(t[1])), margin) <= alpha for t in tables]
    return float(times @ np.array(passes)) / trials


def test_counts_only_the_rows_that_differ() -> None:
    candidate = [True, True, False, False, True]
    reference = [True, False, True, False, False]
    counts = paired_counts(candidate, reference)
    assert counts == PairedCounts(n=5, only_candidate=2, only_reference=1)
    assert counts.difference == pytest.approx(0.2) and counts.discordance == pytest.approx(0.6)
    assert paired_counts(np.array(candidate), np.array(reference)) == counts  # type: ignore[arg-type]


@pytest.mark.parametrize(("counts", "alpha", "expected"), PUBLISHED)
def test_interval_is_the_published_one(counts: tuple[int, int, int], alpha: float, expected: tuple[float, float]) -> None:
    interval = difference_interval(PairedCounts(*counts), alpha)
    assert (round(interval.low, 3), round(interval.high, 3)) == expected


def test_contact_lens_trial_is_non_inferior_at_ten_points() -> None:
    """Tango 1998's worked example: z = 1.709, one-sided p = 0.044."""
    p = score_test(PairedCounts(44, 0, 1), 0.1)
    assert round(p, 3) == 0.044 and round(float(norm.isf(p)), 3) == 1.709


@pytest.mark.parametrize("margin", [0.01, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("table", TABLES)
def test_closed_form_is_the_constrained_maximum(table: tuple[int, int, int], margin: float) -> None:
    expected = float(norm.sf(brute_force_z(*table, -margin)))
    assert score_test(PairedCounts(*table), margin) == pytest.approx(expected, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_interval_inverts_the_test(table: tuple[int, int, int], alpha: float) -> None:
    n, b, c = table
    interval = difference_interval(PairedCounts(n, b, c), alpha)
    assert -1.0 <= interval.low <= (b - c) / n <= interval.high <= 1.0
    if -1.0 < interval.low < 0.0:
        assert score_test(PairedCounts(n, b, c), -interval.low) == pytest.approx(alpha / 2, rel=1e-9)
    if 0.0 < interval.high < 1.0:
        assert score_test(PairedCounts(n, c, b), interval.high) == pytest.approx(alpha / 2, rel=1e-9)


@pytest.mark.parametrize("table", TABLES)
def test_interval_mirrors_when_the_models_swap(table: tuple[int, int, int]) -> None:
    n, b, c = table
    there, back = difference_interval(PairedCounts(n, b, c), 0.05), difference_interval(PairedCounts(n, c, b), 0.05)
    assert there == Interval(-back.high, -back.low)


@pytest.mark.parametrize("n", [2, 50, 1000])
def test_without_discordant_rows_evidence_grows_with_n(n: int) -> None:
    counts, z = PairedCounts(n, 0, 0), float(norm.isf(0.025))
    assert score_test(counts, 0.05) == pytest.approx(float(norm.sf(math.sqrt(n * 0.05 / 0.95))), rel=1e-9)
    assert difference_interval(counts, 0.05).high == pytest.approx(z * z / (n + z * z), rel=1e-9)


def test_all_rows_discordant() -> None:
    assert difference_interval(PairedCounts(5, 5, 0), 0.05).high == 1.0
    assert difference_interval(PairedCounts(5, 0, 5), 0.05).low == -1.0
    assert score_test(PairedCounts(100, 0, 100), 0.05) > 0.999999
    assert score_test(PairedCounts(100, 100, 0), 0.05) < 1e-15
    assert score_test(PairedCounts(100, 50, 50), 0.05) == pytest.approx(float(norm.sf(0.05 * 10 / math.sqrt(1 - 0.0025))))


def test_margin_zero_is_mcnemar_and_a_tie_is_no_evidence() -> None:
    assert score_test(PairedCounts(100, 25, 15), 0.0) == pytest.approx(float(norm.sf(10 / math.sqrt(40))))
    assert score_test(PairedCounts(100, 0, 0), 0.0) == 0.5
    assert score_test(PairedCounts(100, 9, 9), 0.0) == 0.5


@pytest.mark.parametrize("discordance", [0.1, 0.2, 0.4])
def test_size_at_the_margin(discordance: float) -> None:
    """A student that is truly exactly the margin worse passes about as often as the level says."""
    rate = simulated_pass_rate(200, discordance, -0.05, margin=0.05, alpha=0.05, trials=20_000, seed=1)
    assert 0.025 <= rate <= 0.06


def test_evidence_is_never_punished_whatever_the_table() -> None:
    """Exhaustive at small n: one more right answer never turns a pass into a fail."""
    for n in (2, 5, 20, 40):
        for margin in (0.02, 0.05, 0.2):
            p = {(b, c): score_test(PairedCounts(n, b, c), margin) for b in range(n + 1) for c in range(n + 1 - b)}
            for (b, c), here in p.items():
                better = [p[b + 1, c]] if b + c < n else []
                better += [p[b, c - 1]] if c else []
                for after in better:
                    assert all(after <= alpha for alpha in (0.01, 0.05, 0.1, 0.2) if here <= alpha), (n, margin, b, c)


@pytest.mark.parametrize(("discordance", "difference", "margin"), [(0.2, 0.0, 0.05), (0.1, -0.01, 0.05), (0.3, 0.02, 0.04)])
def test_power_is_what_simulation_shows(discordance: float, difference: float, margin: float) -> None:
    for n in (200, 600):
        shown = simulated_pass_rate(n, discordance, difference, margin, 0.05, trials=10_000, seed=n)
        assert power(n, discordance, difference, margin, 0.05) == pytest.approx(shown, abs=0.03)


@pytest.mark.parametrize("table", [(300, 20, 26), (300, 30, 30), (400, 24, 36), (200, 8, 8), (60, 3, 3)])
def test_rows_needed_bring_the_power_that_they_promise(table: tuple[int, int, int]) -> None:
    counts = PairedCounts(*table)
    n = rows_needed(counts, 0.05, 0.05, 0.8)
    assert (
        power(n, counts.discordance, counts.difference, 0.05, 0.05) >= 0.8 > power(n - 1, counts.discordance, counts.difference, 0.05, 0.05)
    )
    assert simulated_pass_rate(n, counts.discordance, counts.difference, 0.05, 0.05, trials=10_000, seed=3) == pytest.approx(0.8, abs=0.05)
    textbook = (norm.isf(0.05) + norm.isf(0.2)) ** 2 * (counts.discordance - counts.difference**2) / (0.05 + counts.difference) ** 2
    assert n >= 0.95 * textbook


def test_a_failed_test_always_asks_for_more_rows_while_the_loss_is_within_the_margin() -> None:
    for n in (2, 13, 40):
        for b in range(n + 1):
            for c in range(n + 1 - b):
                counts = PairedCounts(n, b, c)
                needed = rows_needed(counts, 0.1, 0.05, 0.8)
                if counts.difference <= -0.1:
                    assert needed == 0
                elif score_test(counts, 0.1) > 0.05:
                    assert needed > n, counts


def test_minimum_detectable_effect_is_the_margin_met_with_that_power() -> None:
    effect = minimum_detectable_effect(400, 0.2, 0.05, 0.8)
    assert power(400, 0.2, 0.0, effect, 0.05) == pytest.approx(0.8, abs=1e-9)
    assert effect == pytest.approx((norm.isf(0.05) + norm.isf(0.2)) * math.sqrt(0.2 / 400), rel=0.05)
    z = float(norm.isf(0.05))
    assert minimum_detectable_effect(400, 0.0, 0.05, 0.8) == pytest.approx(z * z / (400 + z * z))
    assert minimum_detectable_effect(2, 1.0, 0.05, 0.99) == 1.0
    sizes = [minimum_detectable_effect(n, 0.2, 0.05, 0.8) for n in (100, 200, 400, 800)]
    assert sizes == sorted(sizes, reverse=True)


def test_power_without_variance_is_a_step() -> None:
    assert power(60, 0.0, 0.0, 0.05, 0.05) == 1.0
    assert power(40, 0.0, 0.0, 0.05, 0.05) == 0.0


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 7), (7, 7), (3, 10), (131, 250), (999, 1000)])
def test_share_has_the_wilson_interval(successes: int, n: int) -> None:
    score, expected = share(successes, n), binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert score.value == successes / n
    assert (score.interval.low, score.interval.high) == (pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12))
    assert 0.0 <= score.interval.low <= score.value <= score.interval.high <= 1.0


def test_bootstrap_f1_is_micro_f1_with_the_spread_of_a_row_bootstrap() -> None:
    rng = np.random.default_rng(5)
    tp, fp, fn = rng.integers(0, 4, 300), rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    score = bootstrap_f1(tp, fp, fn, 4000, seed=1)
    assert score.value == pytest.approx(2 * tp.sum() / (2 * tp.sum() + fp.sum() + fn.sum()))
    rows = rng.integers(0, 300, (4000, 300))
    plain = 2 * tp[rows].sum(1) / (2 * tp[rows].sum(1) + fp[rows].sum(1) + fn[rows].sum(1))
    assert (score.interval.low, score.interval.high) == pytest.approx(tuple(np.quantile(plain, (0.025, 0.975))), abs=0.004)
    assert bootstrap_f1(tp, fp, fn, 4000, seed=1) == score != bootstrap_f1(tp, fp, fn, 4000, seed=2)
    order = rng.permutation(300)
    assert bootstrap_f1(tp[order], fp[order], fn[order], 4000, seed=1) == score


def test_bootstrap_f1_at_the_edges() -> None:
    nothing = bootstrap_f1([0, 0], [0, 0], [0, 0], 100, seed=1)
    assert (nothing.value, nothing.interval) == (0.0, Interval(0.0, 1.0))
    perfect = bootstrap_f1([1, 2, 0], [0, 0, 0], [0, 0, 0], 100, seed=1)
    assert (perfect.value, perfect.interval) == (1.0, Interval(1.0, 1.0))
    wrong = bootstrap_f1([0], [1], [1], 1, seed=1)
    assert (wrong.value, wrong.interval) == (0.0, Interval(0.0, 0.0))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: paired_counts([True], [True, False]), DataError, "1 candidate rows against 2"),
        (lambda: paired_counts([True], [False]), DataError, "at least 2 rows"),
        (lambda: paired_counts([], []), DataError, "at least 2 rows"),
        (lambda: paired_counts([True, float("nan")], [True, True]), DataError, "row 1"),  # type: ignore[list-item]
        (lambda: paired_counts([True, None], [True, True]), DataError, "row 1"),  # type: ignore[list-item]
        (lambda: PairedCounts(10, 6, 5), DataError, "out of 10"),
        (lambda: PairedCounts(10, -1, 5), DataError, "out of 10"),
        (lambda: score_test(PairedCounts(10, 1, 1), -0.05), ConfigError, "margin=-0.05"),
        (lambda: score_test(PairedCounts(10, 1, 1), 1.0), ConfigError, "margin=1"),
        (lambda: score_test(PairedCounts(10, 1, 1), math.nan), ConfigError, "margin=nan"),
        (lambda: difference_interval(PairedCounts(10, 1, 1), 0.0), ConfigError, "alpha=0"),
        (lambda: rows_needed(PairedCounts(10, 1, 1), 0.05, 0.05, 1.0), ConfigError, "power=1"),
        (lambda: power(1, 0.2, 0.0, 0.05, 0.05), DataError, "at least 2 rows"),
        (lambda: power(100, 0.1, 0.2, 0.05, 0.05), DataError, "cannot exceed discordance=0.1"),
        (lambda: minimum_detectable_effect(100, 1.2, 0.05, 0.8), DataError, "discordance=1.2"),
        (lambda: share(0, 0), DataError, "0 of 0"),
        (lambda: share(4, 3), DataError, "4 of 3"),
        (lambda: bootstrap_f1([], [], [], 10, 1), DataError, "at least one row"),
        (lambda: bootstrap_f1([1], [1, 2], [1], 10, 1), DataError, "for each row"),
        (lambda: bootstrap_f1([1], [-1], [1], 10, 1), DataError, "at least 0"),
        (lambda: bootstrap_f1([1], [1], [1], 0, 1), ConfigError, "benchmark.bootstrap"),
        (lambda: bootstrap_retention(([1], [1]), ([1, 0], [1, 1]), 10, 1), DataError, "same rows of both models"),
        (lambda: bootstrap_retention(([], []), ([], []), 10, 1), DataError, "at least one"),
    ],
)
def test_bad_input_is_named(call, error: type[Exception], says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.5], [0.2, 0.2, 0.2], [0.0, 1.0, 0.02], []])
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    expected = multipletests(p_values, method="holm")[1].tolist() if p_values else []
    assert holm(p_values) == pytest.approx(expected)


def test_holm_by_hand() -> None:
    """Holm 1979: the smallest is multiplied by the number of tests, the next by one less, and none may be smaller than the one before."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (45, 50), (1, 300)])
@pytest.mark.parametrize("limit", [0.5, 0.9])
def test_share_test_and_interval_are_scipys(successes: int, n: int, limit: float) -> None:
    exact = binomtest(successes, n, limit, alternative="greater")
    assert share_test(successes, n, limit) == pytest.approx(exact.pvalue)
    expected = binomtest(successes, n).proportion_ci(0.90, method="exact")
    found = share_interval(successes, n, 0.10)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.low > limit) == (share_test(successes, n, limit) < 0.05)


def test_mcnemar_is_statsmodels() -> None:
    """With margin 0 the score test is McNemar's, one-sided and without continuity correction."""
    from statsmodels.stats.contingency_tables import mcnemar

    for only_candidate, only_reference in ((9, 21), (21, 9), (40, 38)):
        two_sided = mcnemar([[50, only_candidate], [only_reference, 50]], exact=False, correction=False).pvalue
        p = score_test(PairedCounts(100 + only_candidate + only_reference, only_candidate, only_reference), 0.0)
        assert p == pytest.approx(two_sided / 2 if only_candidate > only_reference else 1 - two_sided / 2)


@pytest.mark.parametrize(("n", "p_true", "limit"), [(40, 0.95, 0.8), (20, 0.9, 0.6), (100, 0.93, 0.9)])
def test_rows_for_a_share_reach_the_power_asked_for(n: int, p_true: float, limit: float) -> None:
    from scipy.stats import binom

    needed = share_rows_needed(round(p_true * n), n, limit, 0.05, 0.8)
    passing = sum(binom.pmf(k, needed, p_true) for k in range(needed + 1) if share_test(k, needed, limit) <= 0.05)
    assert 0.8 <= passing < 0.9
    assert share_rows_needed(n // 2, n, limit, 0.05, 0.8) == 0
    perfect = share_rows_needed(n, n, limit, 0.05, 0.8)
    assert share_test(perfect, perfect, limit) <= 0.05 < share_test(perfect - 1, perfect - 1, limit)
