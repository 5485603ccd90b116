"""``redistill.promotion.decide``: every gate, every sentence, every refusal."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from redistill.data.grammars.record import RecordGrammar
from redistill.errors import DataError
from redistill.evaluation.timing import Times, Timing
from redistill.evaluation.types import Cost, EvalReport, Outcome
from redistill.promotion.decide import decide, holds
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Audit, Gate, PromotionDecision
from redistill.statistics.paired_counts import PairedCounts, difference_interval, rows_needed, score_test
from redistill.statistics.shares import share

PARAMS = PromoteParams(gates=("teacher", "champion", "reference", "smaller", "faster"))  # type: ignore[arg-type]
LEVEL = 0.05
N = 400


def evidence(
    exact: list[bool], *, who: str = "kd", parameters: int | None = 60_000_000, memory: int | None = 10**9, backend: str = "hf"
) -> BenchmarkResult:
    outcomes = [
        Outcome(f"id{i}", f"doc{i:05d}", f"prompt{i}", "app", "x", "x" if right else "y", right, int(right), int(not right), int(not right))
        for i, right in enumerate(exact)
    ]
    score = share(sum(exact), len(exact)) if exact else share(0, 1)
    cost = Cost(parameters, 10**8, memory)
    report = EvalReport(who, f"digest-{who}", "heldout-a", "template-a", len(exact), score, score, {}, {}, cost, 0, backend)
    return report, outcomes


def rows(right: int, n: int = N, start: int = 0) -> list[bool]:
    """``right`` right rows from ``start`` on, so that overlap, and with it discordance, is chosen by the test."""
    return [start <= i < start + right for i in range(n)]


def teacher(right: int = 220, n: int = N) -> BenchmarkResult:
    return evidence(rows(right, n), who="teacher", parameters=135_000_000)


def timed(*ratios: float, teacher_s: float = 0.12) -> Timing:
    """Student and teacher in turns; by default a third of the teacher's time, with some noise."""
    ratios = ratios or tuple(0.33 + 0.001 * (i % 5) for i in range(24))
    times = [Times("", 10, tuple(s)) for s in ([teacher_s * r for r in ratios], [teacher_s] * len(ratios))]
    return Timing("hf", *times)


TIMED = timed()


def judge(
    student: BenchmarkResult,
    reference: BenchmarkResult | None = None,
    champion: BenchmarkResult | None = None,
    linear: BenchmarkResult | None = None,
    level: float = LEVEL,
    params: PromoteParams = PARAMS,
    timing: Timing | None = TIMED,
) -> PromotionDecision:
    return decide(Evidence(student, reference or teacher(), champion, linear=linear, timing=timing), params, level)


def test_as_good_smaller_and_faster_is_promoted() -> None:
    decision = judge(evidence(rows(216, start=4)))
    assert decision.verdict == "promote"
    assert [g.name for g in decision.gates] == ["non_inferior_to_teacher", "smaller", "faster"]
    assert decision.reasons == tuple(g.sentence for g in decision.gates)
    assert (decision.more_rows, decision.linear_suffices) == (0, False)


def test_gate_holds_the_numbers_of_the_test() -> None:
    gate = judge(evidence(rows(220, start=4))).gates[0]
    assert gate.p_value == score_test(PairedCounts(N, 4, 4), 0.05)
    assert (gate.value, gate.limit, gate.confidence, gate.unit) == (0.0, -0.05, 0.9, "points")
    assert gate.interval == difference_interval(PairedCounts(N, 4, 4), 0.10)


@pytest.mark.parametrize("start", range(0, 40, 3))
@pytest.mark.parametrize("level", [0.05, 0.005])
def test_interval_decides_exactly_as_the_test_does(start: int, level: float) -> None:
    gate = judge(evidence(rows(216, start=start)), level=level).gates[0]
    assert gate.interval is not None
    assert (gate.interval.low > gate.limit) == gate.passed == (gate.p_value is not None and gate.p_value <= level)


def test_sentence_is_plain_and_has_the_numbers() -> None:
    student = evidence(rows(262, 500, start=30))
    decision = judge(student, teacher(275, 500))
    sentence = decision.reasons[0]
    assert sentence.startswith(
        "student 52.4 % exact match against the teacher's 55.0 %: difference -2.6 points (90 % interval -4.9 to -0.4)"
    )
    assert "one-sided p = 0.0" in sentence and "for a loss of 5 points or more, level 0.05" in sentence


def test_missing_evidence_is_told_apart_from_a_loss() -> None:
    decision = judge(evidence(rows(206, start=40)))
    counts = PairedCounts(N, 26, 40)
    assert decision.verdict == "hold" and decision.reasons == (decision.gates[0].sentence,)
    assert decision.more_rows == rows_needed(counts, 0.05, 0.05, 0.8) - N > 0
    assert f"{decision.more_rows:,} more held-out rows (now 400) would show it with 80 % power" in decision.reasons[0]
    worse = judge(evidence(rows(190)))
    assert worse.verdict == "hold" and worse.more_rows == 0
    assert "more rows are not expected to help" in worse.reasons[0]


def test_champion_is_a_gate_of_its_own_and_the_larger_need_counts() -> None:
    student = evidence(rows(212, start=14))
    champion = evidence(rows(214, start=26), who="champion")
    decision = judge(student, champion=champion)
    assert [g.name for g in decision.gates] == ["non_inferior_to_teacher", "non_inferior_to_champion", "smaller", "faster"]
    assert [g.passed for g in decision.gates] == [True, True, True, True]
    better = evidence(rows(N), who="champion")
    decision = judge(student, champion=better)
    assert decision.verdict == "hold" and decision.more_rows == 0
    assert "against the champion's 100.0 %" in decision.reasons[0]
    near = evidence(rows(222, start=32), who="champion")
    decision = judge(evidence(rows(206, start=40)), champion=near)
    needs = [rows_needed(PairedCounts(N, *pair), 0.05, 0.05, 0.8) - N for pair in ((26, 40), (0, 16))]
    assert [g.passed for g in decision.gates[:2]] == [False, False]
    assert decision.more_rows == max(needs)


@pytest.mark.parametrize(
    ("ratios", "result", "says"),
    [
        (
            [0.5] * 8 + [9.0],
            "pass",
            "student takes 0.50 times as long as the teacher for a request (95 % interval 0.50 to 0.50, 9 requests",
        ),
        ([0.5, 0.9] * 12, "pass", "(95 % interval 0.50 to 0.90, 24 requests to both in turns; 84.0 and 120.0 ms at the median), limit 1"),
        (
            [0.9, 1.1] * 12,
            "hold",
            "(95 % interval 0.90 to 1.10, 24 requests to both in turns; 120.0 and 120.0 ms at the median), limit 1: neither shown",
        ),
        ([1.1, 1.3] * 12, "fail", "limit 1: not faster"),
    ],
)
def test_a_time_ratio_passes_and_fails_with_its_whole_interval(ratios: list[float], result: str, says: str) -> None:
    decision = judge(evidence(rows(220)), timing=timed(*ratios))
    gate = decision.gates[-1]
    assert (gate.name, gate.result, gate.limit, gate.confidence) == ("faster", result, 1.0, 0.95) and says in gate.sentence
    assert gate.interval is not None and gate.value is not None and gate.interval.low <= gate.value <= gate.interval.high
    assert decision.verdict == ("promote" if result == "pass" else "hold") and decision.more_rows == 0


def test_as_large_is_held() -> None:
    decision = judge(evidence(rows(220), parameters=135_000_000))
    assert decision.verdict == "hold" and [g.name for g in decision.gates if not g.passed] == ["smaller"]
    assert decision.reasons == ("student has 135,000,000 parameters, the teacher 135,000,000: not fewer",)


def test_a_student_that_was_not_timed_beside_the_teacher_is_held() -> None:
    decision = judge(evidence(rows(220)), timing=None)
    assert (decision.gates[-1].name, decision.gates[-1].result) == ("faster", "hold")
    found = Evidence(evidence(rows(220)), teacher(), unmeasured={"timing": "the endpoint is down"})
    assert decide(found, PARAMS, LEVEL).reasons == ("the times of student and teacher were not compared: the endpoint is down",)
    other = replace(timed(), student=replace(timed().student, architecture="deeper"))
    with pytest.raises(DataError, match="another architecture"):
        judge(evidence(rows(220)), timing=other)


def test_an_endpoint_that_does_not_tell_its_size_is_not_compared_by_size() -> None:
    api = evidence(rows(220), who="teacher", parameters=None)
    assert [g.name for g in judge(evidence(rows(220)), api).gates] == ["non_inferior_to_teacher", "faster"]
    with pytest.raises(DataError, match="no value for parameters"):
        judge(evidence(rows(220), parameters=None))


def test_a_linear_model_that_suffices_is_named_whatever_the_verdict() -> None:
    linear = evidence(rows(224), who="linear", backend="sklearn")
    for student, verdict in ((evidence(rows(220)), "promote"), (evidence(rows(100)), "hold")):
        decision = judge(student, linear=linear)
        assert decision.verdict == verdict and decision.linear_suffices
        assert decision.reasons[-1].startswith("a linear model suffices: linear model 56.0 % exact match against the teacher's 55.0 %")
    weak = judge(evidence(rows(220)), linear=evidence(rows(120), who="linear", backend="sklearn"))
    assert not weak.linear_suffices and not any("linear" in reason for reason in weak.reasons)


def test_order_of_outcomes_does_not_matter() -> None:
    report, outcomes = evidence(rows(212, start=14))
    shuffled = random.Random(3).sample(outcomes, len(outcomes))
    assert judge((report, shuffled)) == judge((report, outcomes))


def test_a_live_champion_is_tested_again_by_the_same_gate() -> None:
    live, old, new = evidence(rows(216, start=4)), teacher(), teacher(300)
    kept = holds(live, old, PARAMS)
    assert kept.passed and kept.name == "non_inferior_to_teacher" and kept.sentence.startswith("champion 54.0 % exact match")
    assert kept.p_value == judge(live, old).gates[0].p_value
    assert not holds(live, new, PARAMS).passed


def test_what_passed_a_look_still_holds_on_the_same_rows() -> None:
    """No look's level exceeds the whole of alpha, at which a champion is tested again."""
    for start in range(0, 60, 2):
        student = evidence(rows(216, start=start))
        if judge(student, level=PARAMS.alpha_per_heldout / PARAMS.looks_per_heldout).verdict == "promote":
            assert holds(student, teacher(), PARAMS).passed


def test_p_near_the_limit_is_shown_with_more_digits() -> None:
    p = score_test(PairedCounts(N, 9, 17), 0.05)
    student = evidence(rows(212, start=17))
    decision = judge(student, level=p - 1e-5)
    assert f"one-sided p = {p:.6f}" in decision.reasons[0] and decision.verdict == "hold"
    assert judge(student, level=p).verdict == "promote"


def test_the_reference_stops_a_creep_by_small_steps() -> None:
    """Each student two points below the one before: all pass against their champion, the last not against the first."""
    students = [evidence(rows(300 - 8 * i), who=f"v{i}") for i in range(4)]
    low = teacher(250)
    for before, after in itertools.pairwise(students):
        assert decide(Evidence(after, low, champion=before, timing=TIMED), PARAMS, LEVEL).verdict == "promote"
    decision = decide(Evidence(students[3], low, champion=students[2], reference=students[0], timing=TIMED), PARAMS, LEVEL)
    assert decision.verdict == "hold" and [g.name for g in decision.gates if not g.passed] == ["non_inferior_to_reference"]
    assert "against the reference's 75.0 %" in decision.reasons[0]


def sliced(measured: BenchmarkResult, name_of: Callable[[int], str]) -> BenchmarkResult:
    return measured[0], [replace(o, slice=name_of(i)) for i, o in enumerate(measured[1])]


SLICED = PromoteParams(gates=("teacher", {"name": "slices", "margin": 0.15, "min_rows": 50}))  # type: ignore[arg-type]


def test_a_slice_that_falls_behind_holds_what_the_whole_would_promote() -> None:
    """App rows are the last hundred of four; there the student loses thirty points, and wins them back elsewhere."""
    right, other = [*rows(220, 300), *[i < 30 for i in range(100)]], [*rows(190, 300), *[i < 60 for i in range(100)]]
    student, reference = (sliced(evidence(e), lambda i: "app" if i >= 300 else "phone") for e in (right, other))
    decision = judge(student, reference, params=SLICED)
    assert {g.name: g.result for g in decision.gates} == {"non_inferior_to_teacher": "pass", "slice_app": "fail", "slice_phone": "pass"}
    assert decision.verdict == "hold" and "student against teacher in slice app: difference -30.0 points" in decision.reasons[0]


def test_slices_are_corrected_and_small_ones_named_but_not_judged() -> None:
    """Thirty rows differ in each of two slices of 180; the third has 40 rows."""
    names = ["a"] * 180 + ["b"] * 180 + ["c"] * 40
    student, reference = (sliced(m, names.__getitem__) for m in (evidence(rows(220, start=13)), teacher()))
    decision = judge(student, reference, params=SLICED)
    gates = {g.name: g for g in decision.gates}
    assert "slice_c" not in gates and "slice c has 40 held-out rows, fewer than 50: it has no gate of its own" in decision.reasons
    p_values = sorted(float(gates[f"slice_{s}"].p_value or 0) for s in "ab")
    for name in ("slice_a", "slice_b"):
        gate = gates[name]
        assert gate.p_value is not None and gate.interval is not None and gate.confidence is not None
        level = (1 - gate.confidence) / 2
        assert (gate.interval.low > gate.limit) == gate.passed and gate.p_value <= level
        assert (
            level == pytest.approx(LEVEL / 2 if gate.p_value == p_values[0] else LEVEL)
            and "Holm's correction over 2 slices" in gate.sentence
        )


def test_one_slice_is_no_slice() -> None:
    assert [g.name for g in judge(evidence(rows(220)), params=SLICED).gates] == ["non_inferior_to_teacher"]


GRAMMAR = RecordGrammar(("card_lost", "fraud"), ("urgent",), (), True)


def labelled(found: int, of: int, n: int = 200) -> BenchmarkResult:
    """``of`` fraud rows of which the model finds ``found``; all others are right."""
    targets = ["fraud; urgent" if i < of else "card_lost" for i in range(n)]
    given = [t if i < found or i >= of else "card_lost; urgent" for i, t in enumerate(targets)]
    report, outcomes = evidence([a == b for a, b in zip(targets, given, strict=True)])
    return report, [replace(o, target=t, response=g) for o, t, g in zip(outcomes, targets, given, strict=True)]


@pytest.mark.parametrize(
    ("found", "of", "limit", "result", "says"),
    [
        (60, 60, 0.9, "pass", "fraud found in 60 of 60 held-out rows, recall 100.0 % (90 % interval 95.1 to 100.0)"),
        (57, 60, 0.9, "hold", "more held-out rows with fraud would show it with 80 % power"),
        (40, 60, 0.9, "fail", "the observed recall is not above the limit"),
        (0, 0, 0.9, "hold", "no held-out row has fraud"),
        (3, 3, 0.9, "hold", "more held-out rows with fraud"),
    ],
)
def test_critical_labels_have_a_limit_of_their_own(found: int, of: int, limit: float, result: str, says: str) -> None:
    params = PromoteParams(gates=("teacher", "critical_labels"), critical_labels={"fraud": limit})  # type: ignore[arg-type]
    same = labelled(found, of)
    decision = decide(Evidence(same, same, grammar=GRAMMAR), params, LEVEL)
    gate = decision.gates[1]
    assert (gate.name, gate.result, gate.unit) == ("recall_fraud", result, "share") and says in gate.sentence
    assert decision.verdict == ("promote" if result == "pass" else "hold") and (gate.more_rows > 0) == (result == "hold")
    if gate.interval is not None:
        assert (gate.interval.low > gate.limit) == gate.passed


def test_a_flag_may_be_critical_and_an_unknown_name_is_refused() -> None:
    same = labelled(30, 60)
    for name, verdict in (("urgent", "promote"), ("nonsense", None)):
        params = PromoteParams(gates=("teacher", "critical_labels"), critical_labels={name: 0.9})  # type: ignore[arg-type]
        if verdict:
            assert decide(Evidence(same, same, grammar=GRAMMAR), params, LEVEL).verdict == verdict
        else:
            with pytest.raises(DataError, match="nonsense is no decision of the data"):
                decide(Evidence(same, same, grammar=GRAMMAR), params, LEVEL)


AUDITED = PromoteParams(gates=("audit", "teacher"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "result", "says"),
    [
        (Audit(850, N, 0, 0, 0, 0, "d"), "pass", "850 training rows audited against 400 held-out rows: no held-out text"),
        (Audit(850, N, 2, 0, 1, 0, "d"), "fail", "2 quote held-out text, 1 contain secrets"),
        (None, "hold", "are unknown"),
    ],
)
def test_what_trained_the_student_is_audited(found: Audit | None, result: str, says: str) -> None:
    decision = decide(Evidence(evidence(rows(220)), teacher(), audit=found), AUDITED, LEVEL)
    assert decision.gates[0].result == result and says in decision.gates[0].sentence
    assert decision.verdict == ("promote" if result == "pass" else "hold")


def test_a_used_up_heldout_set_is_asked_nothing() -> None:
    looks = Gate("looks", "hold", 10, 10, "looks", "used up")
    found = Evidence(evidence(rows(220)), teacher(), linear=evidence(rows(220), backend="sklearn"), timing=TIMED)
    decision = decide(found, PARAMS, 0.0, looks)
    assert decision.verdict == "hold" and decision.reasons == ("used up",)
    assert [g.name for g in decision.gates] == ["looks", "smaller", "faster"] and not decision.linear_suffices


def test_costs_have_limits_of_their_own() -> None:
    params = PromoteParams(gates=("teacher", {"name": "smaller", "below": 0.4}, {"name": "lighter"}))  # type: ignore[arg-type]
    gates = {g.name: g for g in judge(evidence(rows(220), parameters=60_000_000), params=params).gates}
    assert gates["smaller"].result == "fail" and "a ratio of 0.44 (limit 0.4): not below the limit" in gates["smaller"].sentence
    assert gates["lighter"].result == "hold" and gates["lighter"].value == 1.0, "measured once, without an interval: nothing is shown"
    untold = judge(evidence(rows(220), memory=None), params=params).gates[-1]
    assert (untold.name, untold.result) == ("lighter", "hold") and "does not report the peak memory" in untold.sentence


def test_a_champion_that_cannot_be_measured_is_no_reason_to_do_without() -> None:
    found = Evidence(evidence(rows(220)), teacher(), unmeasured={"champion": "its weights cannot be loaded"}, timing=TIMED)
    decision = decide(found, PARAMS, LEVEL)
    assert decision.verdict == "hold" and decision.reasons == (
        "the student could not be compared with the champion: its weights cannot be loaded",
    )


def test_the_question_is_the_same_until_what_is_asked_changes() -> None:
    base = Evidence(evidence(rows(220)), teacher())
    question = base.question(PARAMS)
    assert question == Evidence(evidence(rows(220)), teacher()).question(PARAMS)
    other = replace(base, student=(replace(base.student[0], model_digest="other"), base.student[1]))
    changed = [
        other.question(PARAMS),
        Evidence(evidence(rows(219)), teacher()).question(PARAMS),  # the same weights, measured anew, answer otherwise
        replace(base, champion=evidence(rows(220))).question(PARAMS),
        replace(base, reference=evidence(rows(220))).question(PARAMS),
        base.question(replace(PARAMS, gates=AUDITED.gates)),
        base.question(PromoteParams(gates=("teacher", "critical_labels"), critical_labels={"fraud": 0.9})),  # type: ignore[arg-type]
    ]
    assert len({question, *changed}) == 7
    assert base.question(replace(PARAMS, power=0.9)) == question


def _with_report(**change: object) -> Callable[[BenchmarkResult], BenchmarkResult]:
    return lambda e: (replace(e[0], **change), e[1])  # type: ignore[arg-type]


def _with_row(**change: object) -> Callable[[BenchmarkResult], BenchmarkResult]:
    return lambda e: (e[0], [replace(e[1][0], **change), *e[1][1:]])  # type: ignore[arg-type]


NAN = replace(share(1, 2), value=math.nan)
BROKEN = [
    (_with_report(heldout_digest="heldout-b"), "heldout_digest"),
    (_with_report(template_digest="template-b"), "template_digest"),
    (_with_report(backend="vllm"), "backend"),
    (_with_report(exact_match=NAN), "exact_match of the .* is nan"),
    (_with_report(f1=NAN), "f1 of the .* is nan"),
    (_with_report(n=N + 1), "and its 400 outcomes do not belong together"),
    (_with_report(exact_match=share(10, N)), "and its 400 outcomes do not belong together"),
    (_with_row(doc_hash="elsewhere"), "different held-out rows: 2 doc_hash values"),
    (_with_row(doc_hash="doc00001"), "repeat a doc_hash"),
    (_with_row(prompt_hash="other"), "different prompts for doc_hash doc00000"),
    (lambda e: (e[0], []), "and its 0 outcomes do not belong together"),
]


@pytest.mark.parametrize("role", ["student", "teacher", "champion", "linear"])
@pytest.mark.parametrize(("damage", "says"), BROKEN, ids=[says for _, says in BROKEN])
def test_what_cannot_be_compared_is_refused(role: str, damage: Callable[[BenchmarkResult], BenchmarkResult], says: str) -> None:
    parts: dict[str, BenchmarkResult] = {
        "student": evidence(rows(220)),
        "teacher": teacher(),
        "champion": evidence(rows(220)),
        "linear": evidence(rows(220)),
    }
    parts[role] = damage(parts[role])
    if role == "linear" and says == "backend":
        judge(parts["student"], parts["teacher"], parts["champion"], parts["linear"])  # it has none to compare
        return
    with pytest.raises(DataError, match=says):
        judge(parts["student"], parts["teacher"], parts["champion"], parts["linear"])


def test_too_few_rows_are_refused() -> None:
    for n in (0, 1):
        with pytest.raises(DataError, match="at least 2 rows"):
            judge(evidence(rows(n, n)), evidence(rows(n, n), who="teacher"))


@pytest.mark.parametrize(("lost", "result"), [(0, "pass"), (17, "hold"), (40, "fail")])
def test_recall_may_be_compared_with_the_teachers(lost: int, result: str) -> None:
    """A teacher with a recall of 70 % fails a floor of 80 %; a student that loses nothing against it passes the margin."""
    params = PromoteParams(gates=("teacher", "critical_labels"), critical_labels={"fraud": {"margin": 0.1}})  # type: ignore[arg-type, dict-item]
    own, theirs = labelled(140 - lost, 200), labelled(140, 200)
    gates = {g.name: g for g in decide(Evidence(own, theirs, grammar=GRAMMAR), params, 0.05).gates}
    gate = gates["recall_fraud_against_teacher"]
    assert gate.result == result and "against the teacher's 70.0 %" in gate.sentence and "recall_fraud" not in gates


def test_a_critical_label_may_have_a_floor_and_a_margin() -> None:
    limits = {"fraud": {"floor": 0.5, "margin": 0.1}}
    params = PromoteParams(gates=("teacher", "critical_labels"), critical_labels=limits)  # type: ignore[arg-type]
    names = [g.name for g in decide(Evidence(labelled(140, 200), labelled(140, 200), grammar=GRAMMAR), params, 0.05).gates]
    assert names[1:] == ["recall_fraud", "recall_fraud_against_teacher"]
