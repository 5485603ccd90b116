"""``redistill.promotion``: every gate, every sentence, every refusal."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from redistill.config import PromoteParams
from redistill.errors import DataError
from redistill.promotion import Evidence, decide, holds
from redistill.records import Cost, EvalReport, Outcome
from redistill.statistics import PairedCounts, rows_needed, score_test, share

PARAMS = PromoteParams()
N = 400


def evidence(
    exact: list[bool], *, who: str = "kd", parameters: int | None = 60_000_000, p50: float = 0.04, backend: str = "hf"
) -> Evidence:
    outcomes = [
        Outcome(f"id{i}", f"doc{i:05d}", f"prompt{i}", "app", "x", "x" if right else "y", right, int(right), int(not right), int(not right))
        for i, right in enumerate(exact)
    ]
    score = share(sum(exact), len(exact)) if exact else share(0, 1)
    cost = Cost(p50, 2 * p50, 100.0, parameters, 10**8, 10**9)
    report = EvalReport(who, f"digest-{who}", "heldout-a", "template-a", len(exact), score, score, {}, {}, cost, 0, backend)
    return report, outcomes


def rows(right: int, n: int = N, start: int = 0) -> list[bool]:
    """``right`` right rows from ``start`` on, so that overlap, and with it discordance, is chosen by the test."""
    return [start <= i < start + right for i in range(n)]


def teacher(right: int = 220, n: int = N) -> Evidence:
    return evidence(rows(right, n), who="teacher", parameters=135_000_000, p50=0.12)


def judge(student: Evidence, reference: Evidence | None = None, champion: Evidence | None = None, linear: Evidence | None = None):  # type: ignore[no-untyped-def]
    return decide(student[0], student[1], reference or teacher(), champion, linear, PARAMS)


def test_as_good_smaller_and_faster_is_promoted() -> None:
    decision = judge(evidence(rows(216, start=4)))
    assert decision.verdict == "promote"
    assert [g.name for g in decision.gates] == ["non_inferior_to_teacher", "smaller", "faster"]
    assert decision.reasons == tuple(g.sentence for g in decision.gates)
    assert (decision.more_rows, decision.linear_suffices) == (0, False)


def test_gate_holds_the_numbers_of_the_test() -> None:
    gate = judge(evidence(rows(220, start=4))).gates[0]
    assert gate.value == score_test(PairedCounts(N, 4, 4), 0.05)
    assert gate.limit == 0.05 and gate.interval is not None and gate.interval.low < 0 < gate.interval.high


def test_sentence_is_plain_and_has_the_numbers() -> None:
    student = evidence(rows(262, 500, start=30))
    decision = judge(student, teacher(275, 500))
    sentence = decision.reasons[0]
    assert sentence.startswith("student 52.4 % exact match against the teacher's 55.0 %: difference -2.6 points (95 % interval -5.")
    assert "one-sided p = 0.0" in sentence and "for a loss of 5 points or more, limit 0.05" in sentence


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
    near = evidence(rows(224, start=32), who="champion")
    decision = judge(evidence(rows(206, start=40)), champion=near)
    needs = [rows_needed(PairedCounts(N, *pair), 0.05, 0.05, 0.8) - N for pair in ((26, 40), (0, 18))]
    assert [g.passed for g in decision.gates[:2]] == [False, False]
    assert decision.more_rows == max(needs)


@pytest.mark.parametrize(
    ("change", "gate", "says"),
    [
        ({"parameters": 135_000_000}, "smaller", "student has 135,000,000 parameters, the teacher 135,000,000: not fewer"),
        ({"p50": 0.12}, "faster", "student answers in 120.0 ms at the median, the teacher in 120.0 ms: not faster"),
    ],
)
def test_as_large_or_as_slow_is_held(change: dict[str, float], gate: str, says: str) -> None:
    decision = judge(evidence(rows(220), **change))  # type: ignore[arg-type]
    assert decision.verdict == "hold"
    assert [g.name for g in decision.gates if not g.passed] == [gate]
    assert decision.reasons == (says,) and decision.more_rows == 0


def test_an_endpoint_that_does_not_tell_its_size_is_not_compared_by_size() -> None:
    api = evidence(rows(220), who="teacher", parameters=None, p50=0.5)
    assert [g.name for g in judge(evidence(rows(220)), api).gates] == ["non_inferior_to_teacher", "faster"]
    with pytest.raises(DataError, match="no number of parameters"):
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
    kept = holds(*live, *old, PARAMS)
    assert kept.passed and kept.name == "non_inferior_to_teacher" and kept.sentence.startswith("champion 54.0 % exact match")
    assert kept.value == judge(live, old).gates[0].value
    assert not holds(*live, *new, PARAMS).passed


def test_p_near_the_limit_is_shown_with_more_digits() -> None:
    p = score_test(PairedCounts(N, 9, 17), 0.05)
    student = evidence(rows(212, start=17))
    decision = decide(*student, teacher(), None, None, PromoteParams(alpha=p - 1e-5))  # type: ignore[call-arg]
    assert f"one-sided p = {p:.6f}" in decision.reasons[0] and decision.verdict == "hold"
    assert decide(*student, teacher(), None, None, PromoteParams(alpha=p)).verdict == "promote"  # type: ignore[call-arg]


def _with_report(**change: object) -> Callable[[Evidence], Evidence]:
    return lambda e: (replace(e[0], **change), e[1])  # type: ignore[arg-type]


def _with_row(**change: object) -> Callable[[Evidence], Evidence]:
    return lambda e: (e[0], [replace(e[1][0], **change), *e[1][1:]])  # type: ignore[arg-type]


NAN = replace(share(1, 2), value=math.nan)
BROKEN = [
    (_with_report(heldout_digest="heldout-b"), "heldout_digest"),
    (_with_report(template_digest="template-b"), "template_digest"),
    (_with_report(backend="vllm"), "backend"),
    (_with_report(exact_match=NAN), "exact_match is nan"),
    (_with_report(f1=NAN), "f1 is nan"),
    (_with_report(cost=Cost(math.nan, 1.0, 1.0, 1, 1, 1)), "latency_p50_s is nan"),
    (_with_report(n=N + 1), "was not made of these 400 outcomes"),
    (_with_report(exact_match=share(10, N)), "was not made of these 400 outcomes"),
    (_with_row(doc_hash="elsewhere"), "different held-out rows: 2 doc_hash values"),
    (_with_row(doc_hash="doc00001"), "repeat a doc_hash"),
    (_with_row(prompt_hash="other"), "different prompts for doc_hash doc00000"),
    (lambda e: (e[0], []), "was not made of these 0 outcomes"),
]


@pytest.mark.parametrize("role", ["student", "teacher", "champion", "linear"])
@pytest.mark.parametrize(("damage", "says"), BROKEN, ids=[says for _, says in BROKEN])
def test_what_cannot_be_compared_is_refused(role: str, damage: Callable[[Evidence], Evidence], says: str) -> None:
    parts: dict[str, Evidence] = {
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
