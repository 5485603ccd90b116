"""``redistill.promotion.hold_plan``: what a hold asks of the next cycle."""

from __future__ import annotations

from redistill.data.grammars.record import RecordGrammar
from redistill.evaluation.types import Cost, EvalReport, Outcome
from redistill.promotion.decide import decide
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.hold_plan import patch
from redistill.promotion.params import PromoteParams
from redistill.statistics.shares import share

GRAMMAR = RecordGrammar(("fee", "fraud", "pin"), (), (), True)
PARAMS = PromoteParams(gates=("teacher",))  # type: ignore[arg-type]


def measured(who: str, rows: list[tuple[str, str, str]]) -> BenchmarkResult:
    """(slice, label, response) rows."""
    outcomes = [Outcome(f"id{i}", f"d{i:03d}", f"p{i}", s, t, r, t == r, 0, 0, 0) for i, (s, t, r) in enumerate(rows)]
    score = share(sum(o.exact for o in outcomes), len(rows))
    return EvalReport(who, who, "h", "t", len(rows), score, score, {}, {}, Cost(1, 1, 1), 0, "hf"), outcomes


def test_prompts_are_asked_for_where_the_student_lost() -> None:
    labels = [("app", "fraud"), ("app", "fraud"), ("app", "fee+fraud"), ("phone", "pin"), ("phone", "fee")]
    teacher = measured("teacher", [(s, t, t) for s, t in labels[:4]] + [("phone", "fee", "pin")])
    student = measured(
        "kd",
        [("app", "fraud", "fee"), ("app", "fraud", "pin"), ("app", "fee+fraud", "fraud"), ("phone", "pin", "pin"), ("phone", "fee", "pin")],
    )
    evidence = Evidence(student, teacher, grammar=GRAMMAR)
    decision = decide(evidence, PARAMS, 0.05)
    found = patch(evidence, decision, training_rows=160)
    assert found["because"] == ["non_inferior_to_teacher"]
    assert [(c["slice"], c["label"], c["lost"], c["ask_for"]) for c in found["prompts"]] == [("app", "fraud", 3, 30), ("app", "fee", 1, 10)]
    assert [r["prompt_id"] for r in found["lost"]] == ["id0", "id1", "id2"]
    assert [(r["prompt_id"], r["label"], r["student"]) for r in found["relabel"]] == [("id4", "fee", "pin")]
    assert found["heldout_rows"] == [], "the loss is too large for more rows to help"


def test_a_hold_for_want_of_rows_names_them_and_free_text_has_no_labels() -> None:
    exact = [("app", "x", "x")] * 100
    evidence = Evidence(measured("kd", [*exact[:-1], ("app", "x", "y")]), measured("teacher", exact))
    decision = decide(evidence, PARAMS, 0.001)
    found = patch(evidence, decision, 0)
    assert found["heldout_rows"] == [{"gate": "non_inferior_to_teacher", "more_rows": decision.more_rows}]
    assert [c["label"] for c in found["prompts"]] == ["(text)"] and found["prompts"][0]["ask_for"] == 1
