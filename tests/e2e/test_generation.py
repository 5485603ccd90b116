"""A whole cycle of free text: letters of three lines, which used to end at their first newline and so could never match."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redistill.distillation.types import TrainingRow
from redistill.evaluation.types import Outcome
from redistill.io.parquet import read_records
from tests.cycles import Command, with_registry
from tests.tiny_project import make_tiny_project, write_params

pytestmark = pytest.mark.cycles

FREE_TEXT: dict[str, Any] = {
    "data__task": "generation",
    "data__record": None,
    "generate__max_tokens": 40,
    "benchmark__max_tokens": 40,
    "finetune__arms": {"gold": {"rows": "gold"}, "kd": {"rows": "gold_and_teacher", "alpha": 0.5}},
    "promote__gates": [*({"name": who, "margin": 0.6} for who in ("teacher", "champion")), "smaller"],
    "promote__alpha_per_heldout": 0.2,
    "promote__looks_per_heldout": 2,
    # So few calibration rows show nothing about so small a limit: here the student is judged alone.
    "route__max_disagreement": 0.01,
}
LETTERS = {
    "card": "Dear customer,\nwe saw your card.\nYours",
    "fee": "Dear customer,\nwe saw the fee.\nYours",
    "pin": "Dear customer,\nwe saw your pin.\nYours",
    "other": "Dear customer,\nwe saw it.\nYours",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Path:
    made = with_registry(make_tiny_project(tmp_path_factory.mktemp("letters"), **FREE_TEXT), empty_registry)
    rows = [json.loads(line) for line in (made / "labelled.jsonl").read_text(encoding="utf-8").splitlines()]
    text = "".join(json.dumps({**row, "label": LETTERS[row["label"]]}) + "\n" for row in rows)
    (made / "labelled.jsonl").write_text(text, encoding="utf-8")
    return made


def outcomes(project: Path, who: str) -> list[Outcome]:
    return read_records(project / f"artifacts/benchmark/{who}/outcomes.parquet", Outcome)


def report(project: Path) -> dict[str, Any]:
    return json.loads((project / "artifacts/report/report.json").read_text(encoding="utf-8"))


def test_letters_of_several_lines_are_learnt_judged_and_promoted(project: Path, redistill: Command) -> None:
    done = redistill(project, "run", "--json", "--reason", "letters")
    assert done.code == 0, done.stderr[-3000:]
    kept = read_records(project / "artifacts/validated/kept.parquet", TrainingRow)
    assert sum(row.completion.count("\n") == 2 for row in kept) > 0.5 * len(kept) > 0
    teacher = outcomes(project, "teacher")
    assert sum(o.response.count("\n") == 2 for o in teacher) > 0.5 * len(teacher)
    assert any(o.exact for o in teacher)
    tree = report(project)
    assert tree["decision"]["metric"] == "chrf" and "% chrF against the teacher's" in tree["decision"]["gates"][1]["sentence"]
    assert tree["arms"]["teacher"]["chrf"] > 0.5
    arms = tree["arms"]
    assert tree["retention"].keys() == {"chrf"} and tree["retention"]["chrf"]["value"] == pytest.approx(
        arms["kd"]["chrf"] / arms["teacher"]["chrf"]
    )
    assert "Difference of chrF, points" in (project / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert done.result["verdict"] == "promote", done.result["reasons"]
    left = redistill(project, "heldout", "--json").result
    assert (left["metric"], left["discordance_is"]) == ("chrf", "observed") and 0 <= left["power_of_an_equal_student"] <= 1


def test_a_student_that_writes_noise_is_held(project: Path, redistill: Command) -> None:
    write_params(project, **FREE_TEXT, finetune__common__tokens=200)
    done = redistill(project, "run", "--json", "--reason", "starved")
    assert done.code == 0, done.stderr[-3000:]
    assert done.result["verdict"] == "hold" and any("% chrF against the teacher's" in reason for reason in done.result["reasons"])
    gates = {g["name"]: g["result"] for g in report(project)["decision"]["gates"]}
    assert gates["non_inferior_to_teacher"] != "pass"
    plan = json.loads((project / "artifacts/report/patch.json").read_text(encoding="utf-8"))
    assert plan["prompts"] and plan["lost"], "rows are lost by their chrF, though none has to match as a whole"
