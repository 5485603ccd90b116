"""Gates by a graded metric: free text of several lines, records that are right in part, and references that show nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from redistill.data.grammars.record import RecordGrammar
from redistill.data.types import Message, Prompt
from redistill.errors import ConfigError
from redistill.evaluation.outcomes import items_of, outcome_of
from redistill.evaluation.row_scores import row_scores
from redistill.evaluation.types import Cost, EvalReport, Outcome
from redistill.params import parse_params
from redistill.promotion.decide import decide, holds
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.params import PromoteParams
from redistill.statistics.shares import share
from tests.tiny_project import params

CHRF = PromoteParams(gates=("teacher", "champion", "reference"), metric="chrf")  # type: ignore[arg-type]
EXACT = PromoteParams(gates=("teacher",))  # type: ignore[arg-type]
LEVEL = 0.005
ANSWER = "Dear customer,\nwe have seen the {} and will write again on {}.\nYours, the bank"


def measured(
    targets: list[str], responses: list[str], grammar: RecordGrammar | None = None, *, slices: list[str] | None = None
) -> BenchmarkResult:
    """A report and outcomes as a benchmark makes them, by the real counting."""
    outcomes = []
    for i, (target, response) in enumerate(zip(targets, responses, strict=True)):
        prompt = Prompt.of((Message("user", f"message {i}"),), f"r{i}", slices[i] if slices else "app", target, "rows.jsonl")
        outcomes.append(outcome_of({"filtered_resps": [response], "doc_hash": f"d{i:04d}", "prompt_hash": f"p{i}"}, prompt, grammar))
    score, cost = share(sum(o.exact for o in outcomes), len(outcomes)), Cost(100, 1, 1)
    return EvalReport("x", str(hash(tuple(responses))), "h", "t", len(outcomes), score, score, {}, {}, cost, 0, "hf"), outcomes


def letters(n: int, seed: int = 0) -> list[str]:
    """References of three lines."""
    rng = np.random.default_rng(seed)
    return [ANSWER.format(rng.choice(["fee", "card", "transfer", "loan"]), rng.choice(["Monday", "the fifth", "Friday"])) for _ in range(n)]


def as_well_as_can_be(targets: list[str], seed: int) -> list[str]:
    """Other words for some of it: rarely the very same text, and nearly the same chrF for every seed."""
    rng = np.random.default_rng(seed)
    return [t.replace("will write again", rng.choice(["write", "shall call", "will write again soon"])) for t in targets]


def test_noise_is_never_promoted_though_nobody_matches_a_whole_letter() -> None:
    """Both have no exact match; by exact match that was no discordant pair, and p < 0.001."""
    targets = letters(300)
    teacher, noise = measured(targets, as_well_as_can_be(targets, 1)), measured(targets, ["asdf"] * 300)
    assert not any(o.exact for o in (*teacher[1], *noise[1]))
    by_exact = decide(Evidence(noise, teacher), EXACT, 0.05)
    assert by_exact.verdict == "hold" and by_exact.gates[0].result == "hold"
    assert by_exact.reasons[0].startswith("neither model is right on any row (exact match 0.0 % for both)")
    by_chrf = decide(Evidence(noise, teacher), CHRF, LEVEL)
    assert by_chrf.verdict == "hold" and by_chrf.gates[0].result == "fail" and "% chrF against the teacher's" in by_chrf.reasons[0]


def test_a_student_that_writes_as_well_is_promoted_by_chrf() -> None:
    targets = letters(300)
    student, teacher = (measured(targets, as_well_as_can_be(targets, seed)) for seed in (2, 1))
    decision = decide(Evidence(student, teacher, champion=teacher, reference=teacher), CHRF, LEVEL)
    assert decision.verdict == "promote" and [g.result for g in decision.gates] == ["pass"] * 3 and decision.metric == "chrf"
    gate = decision.gates[0]
    means = [np.mean(row_scores(m[1], "chrf")) for m in (student, teacher)]
    assert gate.value == pytest.approx(means[0] - means[1]) and gate.interval is not None
    assert gate.interval.low > gate.limit and gate.p_value is not None and gate.p_value <= LEVEL
    assert f"student {100 * means[0]:.1f} % chrF against the teacher's {100 * means[1]:.1f} %" in gate.sentence
    assert 0 < decision.smallest_loss < 0.05
    assert holds(student, teacher, CHRF).passed


@pytest.mark.parametrize("other", ["champion", "reference"])
def test_champion_and_reference_are_compared_by_the_same_metric(other: str) -> None:
    """A student as good as its teacher, but far from the champion; neither matches a letter exactly."""
    targets = letters(300)
    student, teacher = (measured(targets, as_well_as_can_be([t.split("\n")[1] for t in targets], s)) for s in (2, 1))
    better = measured(targets, as_well_as_can_be(targets, 3))
    decision = decide(Evidence(student, teacher, **{other: better}), CHRF, LEVEL)
    assert {g.name: g.result for g in decision.gates} == {"non_inferior_to_teacher": "pass", f"non_inferior_to_{other}": "fail"}


def test_slices_are_compared_by_the_same_metric() -> None:
    targets, slices = letters(400), ["app"] * 300 + ["phone"] * 100
    teacher = measured(targets, as_well_as_can_be(targets, 1), slices=slices)
    worse = [*as_well_as_can_be(targets, 2)[:300], *["asdf"] * 100]
    gated = PromoteParams(gates=("teacher", "slices"), metric="chrf")  # type: ignore[arg-type]
    found = {g.name: g.result for g in decide(Evidence(measured(targets, worse, slices=slices), teacher), gated, 0.05).gates}
    assert found["slice_app"] == "pass" and found["slice_phone"] == "fail"
    mute = [*as_well_as_can_be(targets, 1)[:300], *[""] * 100]
    both = [measured(targets, mute, slices=slices)] * 2
    decision = decide(Evidence(*both), gated, 0.05)
    gates = {g.name: g for g in decision.gates}
    assert gates["slice_phone"].result == "hold" and "on any row in slice phone" in gates["slice_phone"].sentence
    assert gates["slice_app"].passed and decision.verdict == "hold"


GRAMMAR = RecordGrammar(tuple("abcdefgh"), (), (), several=True)


def records(n: int, wrong_every: int) -> tuple[list[str], list[str]]:
    """Five labels a row; of every ``wrong_every``-th row one label is missed."""
    targets = ["+".join(sorted("abcdefgh"[(i + k) % 8] for k in range(5))) for i in range(n)]
    return targets, ["+".join(t.split("+")[:-1]) if i % wrong_every == 0 else t for i, t in enumerate(targets)]


def test_records_of_many_labels_are_judged_by_what_they_share() -> None:
    """Each ninth row misses one of five labels: 89 % exact match, 98.8 % row F1."""
    targets, responses = records(300, 9)
    student, teacher = measured(targets, responses, GRAMMAR), measured(targets, targets, GRAMMAR)
    by_exact = decide(Evidence(student, teacher, grammar=GRAMMAR), EXACT, LEVEL)
    by_f1 = decide(Evidence(student, teacher, grammar=GRAMMAR), replace(EXACT, metric="row_f1"), LEVEL)
    assert by_exact.verdict == "hold" and by_f1.verdict == "promote"
    assert "student 98.7 % row F1 against the teacher's 100.0 %" in by_f1.reasons[0]


def test_row_scores_by_hand() -> None:
    def outcome(target: str, response: str, grammar: RecordGrammar | None) -> Outcome:
        return measured([target, target], [response, response], grammar)[1][0]

    assert row_scores([outcome("a+b", "a+b", GRAMMAR), outcome("a+b", "a", GRAMMAR), outcome("a", "?", GRAMMAR)], "row_f1") == [
        1.0,
        2 / 3,
        0.0,
    ]
    assert row_scores([outcome("a+b", "a+b", GRAMMAR), outcome("a+b", "a", GRAMMAR)], "exact_match") == [1.0, 0.0]
    same, near, none = row_scores([outcome("one\ntwo", r, None) for r in ("one\ntwo", "one\ntow", "")], "chrf")
    assert same == 1.0 and 0.3 < near < 1.0 and none == 0.0
    assert items_of(None, "one\ntwo\n") == frozenset({("text", "one\ntwo")})


@pytest.mark.parametrize(
    ("metric", "right", "floor", "result"),
    [
        ("exact_match", 20, None, "hold"),
        ("exact_match", 60, None, "pass"),
        ("exact_match", 20, 0.03, "pass"),
        ("exact_match", 60, 0.2, "hold"),
    ],
)
def test_a_teacher_below_the_floor_is_nothing_to_be_compared_with(metric: Any, right: int, floor: float | None, result: str) -> None:
    """Teacher and student alike, right on few of 400 rows: "not worse by five points" would let a student pass that can do nothing."""
    targets = ["x"] * 400
    same = measured(targets, ["x"] * right + ["y"] * (400 - right))
    gated = PromoteParams(gates=("teacher",), metric=metric, min_teacher=floor)  # type: ignore[arg-type]
    gate = decide(Evidence(same, same), gated, LEVEL).gates[0]
    assert gate.result == result
    if result == "hold":
        assert gate.sentence.startswith(
            f"the teacher's {right / 4:.1f} % exact match is below the {100 * gated.floor:g} % of promote.min_teacher"
        )
        assert gate.p_value == 1.0 and gate.interval is None and gate.more_rows == 0
    assert not holds(same, same, gated).passed or result == "pass"


def test_the_floor_is_a_share_of_the_metric() -> None:
    assert [PromoteParams(metric=m).floor for m in ("exact_match", "row_f1", "chrf", None)] == [0.1, 0.2, 0.3, 0.1]
    assert PromoteParams(metric="chrf", min_teacher=0.0).floor == 0.0
    text = letters(300)
    nonsense = [measured(text, ["balance arrived soon phone letter"] * 300)] * 2
    gate = decide(Evidence(*nonsense), CHRF, 0.05).gates[0]
    assert gate.result == "hold" and "below the 30 % of promote.min_teacher" in gate.sentence


def test_few_rows_ask_for_more_in_the_same_words() -> None:
    targets = letters(30)
    student, teacher = (measured(targets, as_well_as_can_be(targets, seed)) for seed in (2, 1))
    gate = decide(Evidence(student, teacher), CHRF, LEVEL).gates[0]
    assert gate.result == "hold" and f"{gate.more_rows:,} more held-out rows (now 30) would show it with 80 % power" in gate.sentence


def test_another_metric_is_another_question_and_an_old_look_stays_one() -> None:
    targets = letters(20)
    found = Evidence(measured(targets, targets), measured(targets, targets))
    questions = [
        found.question(replace(EXACT, **c)) for c in ({"metric": "chrf"}, {"min_teacher": 0.5}, {"metric": "chrf", "min_teacher": 0.5})
    ]
    assert len({found.question(EXACT), *questions}) == 4
    assert found.question(replace(EXACT, metric="exact_match")) == found.question(EXACT)


def tree(**promote: Any) -> dict[str, Any]:
    made = params("0" * 64)
    made["promote"] |= promote
    return made


def test_the_metric_follows_the_task_unless_a_person_says_otherwise() -> None:
    assert parse_params(tree()).promote.scored_by == "exact_match"
    assert parse_params(tree(metric="row_f1", min_teacher=0.4)).promote.floor == 0.4
    text = tree()
    text["data"] |= {"task": "generation"}
    del text["data"]["record"]
    assert parse_params(text).promote.scored_by == "chrf"
    text["data"]["record"] = {"labels": ["card"]}
    assert parse_params(text).data.grammar is None and parse_params(text).promote.scored_by == "chrf", "free text has no grammar"
    text["promote"]["metric"] = "exact_match"
    assert parse_params(text).promote.scored_by == "exact_match"
    text["promote"]["metric"] = "row_f1"
    with pytest.raises(ConfigError, match=r"promote.metric: row_f1 counts the items of a record"):
        parse_params(text)
    with pytest.raises(ConfigError, match=r"promote.metric"):
        parse_params(tree(metric="bleu"))
