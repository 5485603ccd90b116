"""Counterfactual pairs: how they are read, when one flips, and the gate on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.config import PromoteParams, parse_params
from redistill.errors import ConfigError, DataError
from redistill.fairness import Pair, decided, fairness_of, read_pairs
from redistill.gates.evidence import Evidence
from redistill.grammar import RecordGrammar
from redistill.patch import patch
from redistill.promotion import decide, shown
from redistill.records import Fairness, Flip
from redistill.statistics import PairedCounts, score_test, share
from tests.tiny_project import params
from tests.unit.test_promotion import evidence, rows

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
        ({"id": "b", "texts": ["x", "y"]}, "line 2: kind must be text, not None"),
        ({**ROW, "id": 7}, "line 2: id must be text, not 7"),
        (ROW, "line 2: id 'a' stands twice"),
        ([1], "line 2: .* is no object"),
    ],
)
def test_a_bad_pair_is_one_clear_line(tmp_path: Path, row: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_pairs("pairs.jsonl", write(tmp_path, ROW, row))


def test_no_file_and_no_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs.jsonl is missing; correct benchmark.fairness"):
        read_pairs("pairs.jsonl", tmp_path)
    with pytest.raises(DataError, match="holds no pairs"):
        read_pairs("pairs.jsonl", write(tmp_path))


@pytest.mark.parametrize(
    ("one", "two", "flips"),
    [
        ("fee; amount=£5", "fee", False),  # an entity is copied, not decided
        ("card+fee", "card", True),
        ("card; urgent", "card", True),
        ("card", "nonsense", True),
        ("nonsense", "other nonsense", False),
    ],
)
def test_a_pair_flips_when_labels_or_flags_differ(one: str, two: str, flips: bool) -> None:
    found = fairness_of([Pair("a", "name", ("x", "y"))], ["x=>", "y=>"], [one, two], GRAMMAR)
    assert [f.pair for f in found.flips] == (["a"] if flips else []) and found.rate.value == float(flips)
    assert (decided(GRAMMAR, one) != decided(GRAMMAR, two)) == flips


def test_free_text_flips_when_it_differs_and_kinds_are_counted_apart() -> None:
    pairs = [Pair("a", "name", ("1", "2")), Pair("b", "name", ("3", "4")), Pair("c", "dialect", ("5", "6"))]
    found = fairness_of(pairs, list("123456"), ["yes", "no", "yes", "yes ", "no", "no"], None)
    assert {kind: score.value for kind, score in found.kinds.items()} == {"name": 0.5, "dialect": 0.0}
    assert (found.n, found.rate.value) == (3, pytest.approx(1 / 3))
    assert found.pairs_digest != fairness_of(pairs, list("12345x"), [""] * 6, None).pairs_digest, "other prompts are another question"


def told(flipped: set[int], n: int = 100, digest: str = "pairs") -> Fairness:
    flips = tuple(Flip(str(i), "name", ("x", "y"), ("card", "fee")) for i in sorted(flipped))
    return Fairness(digest, n, share(len(flips), n), {"name": share(len(flips), n)}, flips)


def judged(student: Fairness | None, teacher: Fairness | None) -> Evidence:
    (report, outcomes), (other, others) = evidence(rows(220)), evidence(rows(220), who="teacher")
    return Evidence((replace(report, fairness=student), outcomes), (replace(other, fairness=teacher), others), grammar=GRAMMAR)


def test_the_gate_is_the_paired_score_test_on_pairs() -> None:
    decision = decide(judged(told(set(range(8))), told({0, 1, 2, 50, 51})), GATED, 0.05)
    gate = decision.gates[1]
    assert gate.p_value == score_test(PairedCounts(100, 2, 5), 0.1) and gate.passed == (gate.p_value <= 0.05)
    assert gate.value == pytest.approx(-0.03) and gate.limit == -0.1 and gate.interval is not None
    assert (gate.interval.low > gate.limit) == gate.passed
    assert gate.sentence.startswith("student decides otherwise for 8.0 % of 100 counterfactual pairs, the teacher for 5.0 %")


def test_few_pairs_hold_and_say_how_many_more() -> None:
    decision = decide(judged(told({0, 1}, 20), told({2}, 20)), GATED, 0.005)
    gate = decision.gates[1]
    assert (
        gate.result == "hold"
        and "more counterfactual pairs (now 20)" in gate.sentence
        and decision.more_rows == decision.gates[0].more_rows
        and not shown(decision)
    )


def test_a_student_that_flips_far_more_fails_and_the_plan_names_the_pairs() -> None:
    found = judged(told(set(range(40))), told({0, 1}))
    decision = decide(found, GATED, 0.05)
    assert decision.verdict == "hold" and decision.gates[1].result == "fail"
    plan = patch(found, decision, 100)
    assert plan["because"] == ["fairness"] and [f["pair"] for f in plan["flips"]] == sorted(map(str, range(2, 40)), key=int)


def test_a_model_that_was_not_asked_is_held_and_other_pairs_are_refused() -> None:
    gate = decide(judged(None, told({1})), GATED, 0.05).gates[1]
    assert gate.result == "hold" and "the student was not asked the counterfactual pairs" in gate.sentence
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
