"""Counterfactual pairs: how they are read, when one flips, and the gate on them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.data.grammars.record import RecordGrammar
from redistill.errors import ConfigError, DataError
from redistill.evaluation.probes.counterfactual import Pair, fairness_from, outcomes_of, pairs_digest, read_pairs, with_messages
from redistill.evaluation.types import Fairness, Flip
from redistill.params import parse_params
from redistill.promotion.decide import decide
from redistill.promotion.evidence import Evidence
from redistill.promotion.hold_plan import patch
from redistill.promotion.params import PromoteParams
from redistill.statistics.paired_counts import PairedCounts, score_test
from redistill.statistics.shares import share
from tests.tiny_project import params
from tests.unit.promotion.test_decide import evidence, rows

GRAMMAR = RecordGrammar(("card", "fee"), ("urgent",), ("amount",), several=True)
GATED = PromoteParams(gates=("teacher", {"name": "fairness", "margin": 0.1}))  # type: ignore[arg-type]
ROW = {"id": "a", "kind": "name", "texts": ["I'm Emily", "I'm Amara"]}


def write(path: Path, *rows: object) -> Path:
    (path / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_pairs_are_read_and_become_two_prompts(tmp_path: Path) -> None:
    (pair,) = read_pairs("pairs.jsonl", write(tmp_path, ROW))
    one, two = pair.prompts
    assert (pair.kind, one.text, two.text) == ("name", "I'm Emily", "I'm Amara") and one.id != two.id and one.label is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**ROW, "texts": ["one"]}, "line 2: texts must be a list of two messages"),
        ({**ROW, "texts": ["one", "  "]}, "line 2: texts must be a list of two messages"),
        ({**ROW, "texts": "both"}, "line 2: texts must be a list of two messages"),
        ({**ROW, "texts": ["same", "same"]}, "line 2: both texts are the same"),
        ({"id": "b", "texts": ["x", "y"]}, "line 2: kind must be text, not null"),
        ({**ROW, "id": 7}, "line 2: id must be text, not a whole number"),
        ({**ROW, "message": " "}, "line 2: message must be text, not a text of 1 character"),
        (ROW, "line 2: its id occurs twice"),
        ({**ROW, "id": "b", "message": "m"}, "1 of the 2 pairs have no message, and the others have one; .* in all pairs or in none"),
        ([1], "line 2: .* is not a JSON object"),
    ],
)
def test_a_bad_pair_is_one_clear_line(tmp_path: Path, row: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_pairs("pairs.jsonl", write(tmp_path, ROW, row))


def test_no_file_and_no_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs.jsonl is missing; correct benchmark.fairness"):
        read_pairs("pairs.jsonl", tmp_path)
    with pytest.raises(DataError, match="has no pairs"):
        read_pairs("pairs.jsonl", write(tmp_path))


def pair(name: str, one: str, two: str, message: str = "") -> Pair:
    return Pair(name, "name", (one, two), message)


def messages(*pairs: Pair) -> list[str]:
    return [p.message for p in with_messages(pairs)]


def test_names_in_one_message_are_pairs_of_one_message() -> None:
    """By the words that both texts share, or by a text that two pairs have in common."""
    text = "{} here, my card has not come and it has been nine days."
    names = [("Emily", "Amara"), ("Jack Reed", "Mohammed Hussain"), ("oliver", "mehmet")]
    same = [pair(f"a{i}", text.format(x), text.format(y)) for i, (x, y) in enumerate(names)]
    assert messages(*same, pair("b", "Emily here, what is the fee for this?", "Amara here, what is the fee for this?")) == [
        "a0",
        "a0",
        "a0",
        "b",
    ]
    standard = "I have not received my new card."
    dialects = [pair("s", standard, "A huvnae got ma new caird."), pair("y", standard, "I ain't had me new card yet.")]
    assert messages(*dialects) == ["s", "s"]


def test_pairs_that_share_a_word_or_two_are_not_of_one_message() -> None:
    assert messages(
        pair("a", "I cannot remember my PIN.", "I cannae mind ma PIN."), pair("b", "I lost my card.", "I've went an lost ma caird.")
    ) == [
        "a",
        "b",
    ]


def test_a_named_message_is_what_counts_and_a_later_pair_may_connect_two() -> None:
    one, two = ("Emily, card lost again today", "Amara, card lost again today"), ("Jack lost his card", "Ali lost his card")
    assert messages(pair("a", *one, "m1"), pair("b", *two, "m1"), pair("c", *one, "m2")) == ["m1", "m1", "m2"]
    assert messages(pair("a", *one), pair("b", *two), pair("c", one[0], two[1])) == ["a", "a", "a"]


def fairness_of(pairs: list[Pair], rendered: list[str], responses: list[str], grammar: RecordGrammar | None) -> Fairness:
    return fairness_from(outcomes_of(pairs, responses), pairs_digest(pairs, rendered), grammar)


@pytest.mark.parametrize(
    ("one", "two", "flips"),
    [
        ("fee; amount=£5", "fee", False),  # an entity is copied, not decided
        ("card+fee", "card", True),
        ("card; urgent", "card", True),
        ("card", "nonsense", True),
        ("nonsense", "nonsense", True),  # a model that never follows the grammar has decided nothing alike
    ],
)
def test_a_pair_flips_when_labels_or_flags_differ_or_there_are_none(one: str, two: str, flips: bool) -> None:
    found = fairness_of([Pair("a", "name", ("x", "y"), "m")], ["x=>", "y=>"], [one, two], GRAMMAR)
    assert [(f.pair, f.message) for f in found.flips] == ([("a", "m")] if flips else []) and found.rate.value == float(flips)


def test_free_text_flips_when_it_differs_and_kinds_are_counted_apart() -> None:
    pairs = [Pair("a", "name", ("1", "2"), "a"), Pair("b", "name", ("3", "4"), "b"), Pair("c", "dialect", ("5", "6"), "c")]
    found = fairness_of(pairs, list("123456"), ["yes", "no", "yes", "yes ", "no", "no"], None)
    assert {kind: score.value for kind, score in found.kinds.items()} == {"name": 0.5, "dialect": 0.0}
    assert (found.n, found.rate, found.messages) == (3, share(1, 3), {"a": 1, "b": 1, "c": 1})
    assert found.pairs_digest != fairness_of(pairs, list("12345x"), [""] * 6, None).pairs_digest, "other prompts are another question"
    regrouped = [replace(p, message="a") for p in pairs]
    assert found.pairs_digest != fairness_of(regrouped, list("123456"), [""] * 6, None).pairs_digest, "other messages too"


def test_in_a_rate_each_message_counts_once() -> None:
    """One message has four pairs of which two flip, one has one that does not: 1/2 and 0, a quarter of two messages."""
    pairs = [*(Pair(str(i), "name", ("x", "y"), "m") for i in range(4)), Pair("alone", "name", ("x", "y"), "alone")]
    found = fairness_of(pairs, [""] * 10, ["card", "fee", "card", "fee", *["card"] * 6], GRAMMAR)
    assert (found.n, found.messages, found.rate.value) == (5, {"m": 4, "alone": 1}, 0.25)
    assert found.rate.interval.low < 0.03 and found.rate.interval.high > 0.75, "two messages say little"


def told(flipped: set[int], n: int = 100, digest: str = "pairs", a_message: int = 1) -> Fairness:
    """``n`` pairs, ``a_message`` from each message, of which those with these numbers flip."""
    flips = tuple(Flip(str(i), "name", ("x", "y"), ("card", "fee"), str(i // a_message)) for i in sorted(flipped))
    messages = dict(Counter(str(i // a_message) for i in range(n)))
    return Fairness(digest, n, share(len(flips), n), {"name": share(len(flips), n)}, flips, messages)


def judged(student: Fairness | None, teacher: Fairness | None) -> Evidence:
    (report, outcomes), (other, others) = evidence(rows(220)), evidence(rows(220), who="teacher")
    return Evidence((replace(report, fairness=student), outcomes), (replace(other, fairness=teacher), others), grammar=GRAMMAR)


def test_the_gate_is_the_paired_score_test_on_pairs() -> None:
    decision = decide(judged(told(set(range(8))), told({0, 1, 2, 50, 51})), GATED, 0.05)
    gate = decision.gates[1]
    assert gate.p_value == score_test(PairedCounts(100, 2, 5), 0.1) and gate.passed == (gate.p_value <= 0.05)
    assert gate.value == pytest.approx(-0.03) and gate.limit == -0.1 and gate.interval is not None
    assert (gate.interval.low > gate.limit) == gate.passed
    assert gate.sentence.startswith("the student flips on 8.0 % of 100 counterfactual pairs, the teacher on 5.0 %")


def test_ten_names_in_a_message_are_one_message_to_the_gate() -> None:
    """Ten messages, of which nobody flips any: they cannot rule out that one in ten is flipped by the student only."""
    none = set[int]()
    alone = decide(judged(told(none), told(none)), GATED, 0.05).gates[1]
    assert alone.result == "pass" and "of 100 counterfactual pairs, the teacher" in alone.sentence
    gate = decide(judged(told(none, a_message=10), told(none, a_message=10)), GATED, 0.05).gates[1]
    assert gate.result == "hold" and gate.p_value == pytest.approx(score_test(PairedCounts(10, 0, 0), 0.1))
    assert "of 100 counterfactual pairs from 10 messages, each of which counts once, the teacher" in gate.sentence
    assert "more messages with counterfactual pairs (now 10)" in gate.sentence
    whole = decide(judged(told(set(range(20, 30)), a_message=10), told(none, a_message=10)), GATED, 0.05).gates[1]
    assert whole.value == pytest.approx(-0.1) and whole.p_value == pytest.approx(score_test(PairedCounts(10, 0, 1), 0.1))


def test_pairs_of_one_message_show_nothing_about_others() -> None:
    gate = decide(judged(told({1}, a_message=100), told({1}, a_message=100)), GATED, 0.05).gates[1]
    assert gate.result == "hold" and "all counterfactual pairs come from one message" in gate.sentence


def test_few_pairs_hold_and_say_how_many_more() -> None:
    decision = decide(judged(told({0, 1}, 20), told({2}, 20)), GATED, 0.005)
    gate = decision.gates[1]
    assert (
        gate.result == "hold"
        and "more counterfactual pairs (now 20)" in gate.sentence
        and decision.more_rows == decision.gates[0].more_rows
    )


def test_a_student_that_flips_far_more_fails_and_the_plan_names_the_pairs() -> None:
    found = judged(told(set(range(40))), told({0, 1}))
    decision = decide(found, GATED, 0.05)
    assert decision.verdict == "hold" and decision.gates[1].result == "fail"
    plan = patch(found, decision, 100)
    assert plan["because"] == ["fairness"] and [f["pair"] for f in plan["flips"]] == sorted(map(str, range(2, 40)), key=int)


def test_a_model_that_was_not_asked_is_held_and_other_pairs_are_refused() -> None:
    gate = decide(judged(None, told({1})), GATED, 0.05).gates[1]
    assert gate.result == "hold" and "the student was not benchmarked on the counterfactual pairs" in gate.sentence
    without = decide(judged(replace(told({1}), messages={}), told({1})), GATED, 0.05).gates[1]
    assert without.result == "hold" and "benchmark it again" in without.sentence, "measured by a version that did not know messages"
    with pytest.raises(DataError, match="differ in counterfactual pairs"):
        decide(judged(told({1}), told({1}, digest="others")), GATED, 0.05)
    assert [g.name for g in decide(judged(None, None), GATED, 0.0).gates] == [], "a used-up set is asked nothing"


def test_other_flips_are_another_question() -> None:
    keys = {judged(told(set(range(n))), told({1})).question(GATED) for n in (1, 2, 2)}
    assert len(keys) == 2


def test_the_gate_needs_its_pairs() -> None:
    tree = params("0" * 64)
    tree["promote"]["gates"] += ["fairness"]
    assert parse_params(tree).benchmark.files == ["fairness.jsonl"]
    del tree["benchmark"]["fairness"]
    with pytest.raises(ConfigError, match=r"lists 'fairness', but benchmark.fairness names no file"):
        parse_params(tree)
