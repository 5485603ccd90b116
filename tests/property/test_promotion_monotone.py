"""Promotion is monotone in evidence: more right answers of the student never take a promotion away."""

from __future__ import annotations

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from redistill.evaluation.timing import Times, Timing
from redistill.evaluation.types import Cost, EvalReport, Outcome
from redistill.promotion.decide import decide
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import PromotionDecision
from redistill.statistics.paired_counts import PairedCounts, difference_interval, score_test
from redistill.statistics.shares import share

PARAMS = st.builds(
    lambda margin, alpha: PromoteParams(
        gates=({"name": "teacher", "margin": margin}, {"name": "champion", "margin": margin}, "smaller", "faster"),  # type: ignore[arg-type]
        alpha_per_heldout=alpha,
    ),
    st.sampled_from([0.02, 0.05, 0.1, 0.3]),
    st.sampled_from([0.01, 0.05, 0.2]),
)
KINDS = st.lists(
    st.sampled_from([(1, 1, 1)] * 6 + [(0, 0, 0)] * 3 + [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]),
    min_size=2,
    max_size=250,
)
"""(student, teacher, champion) right on one row; mostly they agree, as real models do."""

TABLES = st.integers(2, 2000).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.integers(0, n - b).map(lambda c: PairedCounts(n, b, c)))
)


TIMED = Timing("hf", Times("", 9, (0.1,) * 8), Times("", 9, (0.2,) * 8))


def evidence(exact: list[int], *, large: bool = False) -> BenchmarkResult:
    outcomes = [Outcome(f"id{i}", f"doc{i}", f"p{i}", "s", "x", "x" if e else "y", bool(e), e, 1 - e, 1 - e) for i, e in enumerate(exact)]
    score = share(sum(exact), len(exact))
    cost = Cost(200 if large else 100, 1, 1)
    return EvalReport("x", "d", "h", "t", len(exact), score, score, {}, {}, cost, 0, "hf"), outcomes


def judge(student: list[int], teacher: list[int], champion: list[int] | None, params: PromoteParams) -> PromotionDecision:
    found = Evidence(evidence(student), evidence(teacher, large=True), None if champion is None else evidence(champion), timing=TIMED)
    return decide(found, params, params.alpha_per_heldout)


@settings(deadline=None, max_examples=150)
@given(KINDS, st.booleans(), PARAMS, st.data())
def test_one_more_right_answer_never_turns_promote_into_hold(
    kinds: list[tuple[int, int, int]], live: bool, params: PromoteParams, data: st.DataObject
) -> None:
    student, teacher, champion = ([kind[i] for kind in kinds] for i in range(3))
    wrong = [i for i, right in enumerate(student) if not right]
    assume(wrong)
    row = data.draw(st.sampled_from(wrong))
    before = judge(student, teacher, champion if live else None, params)
    after = judge([*student[:row], 1, *student[row + 1 :]], teacher, champion if live else None, params)
    assert not (before.verdict == "promote" and after.verdict == "hold")
    for old, new in zip(before.gates, after.gates, strict=True):
        assert new.passed or not old.passed


@settings(deadline=None, max_examples=150)
@given(KINDS, PARAMS, st.integers(2, 4))
def test_the_same_evidence_several_times_over_never_takes_a_promotion_away(
    kinds: list[tuple[int, int, int]], params: PromoteParams, times: int
) -> None:
    student, teacher = [k[0] for k in kinds], [k[1] for k in kinds]
    if judge(student, teacher, None, params).verdict == "promote":
        assert judge(student * times, teacher * times, None, params).verdict == "promote"


@settings(deadline=None, max_examples=150)
@given(KINDS, st.booleans(), PARAMS)
def test_a_decision_explains_itself(kinds: list[tuple[int, int, int]], live: bool, params: PromoteParams) -> None:
    student, teacher, champion = ([kind[i] for kind in kinds] for i in range(3))
    decision = judge(student, teacher, champion if live else None, params)
    failing = tuple(g.sentence for g in decision.gates if not g.passed)
    assert (decision.verdict == "promote") == (not failing)
    assert decision.reasons == (failing or tuple(g.sentence for g in decision.gates))
    assert (decision.more_rows > 0) == any("more held-out rows" in s for s in failing)
    assert len({g.name for g in decision.gates}) == len(decision.gates) == 3 + live
    assert judge(student, teacher, champion if live else None, params) == decision


GRADED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=60).filter(
    lambda rows: all(a or b for a, b, _, _ in rows)
)
"""(found, missed) items of the student, then of the teacher, on one row."""


def graded(rows: list[tuple[int, int]]) -> BenchmarkResult:
    outcomes = [
        Outcome(f"id{i}", f"doc{i:03d}", f"p{i}", "s", "x", "x" if not missed else "y", not missed, found, 0, missed)
        for i, (found, missed) in enumerate(rows)
    ]
    score = share(sum(o.exact for o in outcomes), len(rows))
    return EvalReport("x", "d", "h", "t", len(rows), score, score, {}, {}, Cost(100, 1, 1), 0, "hf"), outcomes


@settings(deadline=None, max_examples=40)
@given(GRADED, st.sampled_from([0.05, 0.3]), st.sampled_from([0.005, 0.05]), st.data())
def test_one_more_item_found_never_turns_promote_into_hold(
    rows: list[tuple[int, int, int, int]], margin: float, level: float, data: st.DataObject
) -> None:
    """By a graded metric as by exact match."""
    student, teacher = [r[:2] for r in rows], [r[2:] for r in rows]
    wrong = [i for i, (_, missed) in enumerate(student) if missed]
    assume(wrong)
    row = data.draw(st.sampled_from(wrong))
    better = [*student[:row], (student[row][0] + 1, student[row][1] - 1), *student[row + 1 :]]
    params = PromoteParams(gates=({"name": "teacher", "margin": margin},), metric="row_f1")  # type: ignore[arg-type]
    before, after = (decide(Evidence(graded(s), graded(teacher)), params, level).gates[0] for s in (student, better))
    assert after.passed or not before.passed
    assert before.result == "fail" or after.result != "fail"


@settings(deadline=None, max_examples=300)
@given(TABLES, st.sampled_from([0.02, 0.05, 0.1, 0.3]), st.sampled_from([0.01, 0.05, 0.2]))
@example(PairedCounts(2, 0, 0), 0.05, 0.05)
@example(PairedCounts(2000, 2000, 0), 0.02, 0.01)
@example(PairedCounts(2000, 0, 2000), 0.02, 0.01)
def test_test_and_interval_never_contradict(counts: PairedCounts, margin: float, alpha: float) -> None:
    p, interval = score_test(counts, margin), difference_interval(counts, 2 * alpha)
    assert 0.0 <= p <= 1.0 and -1.0 <= interval.low <= counts.difference <= interval.high <= 1.0
    assume(abs(p - alpha) > 1e-9)
    assert (p < alpha) == (interval.low > -margin)
