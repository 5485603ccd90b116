"""A whole cycle of JSON completions: labels that are objects, one spelling, F1 by path, and gates on listed values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redistill.distillation.types import TrainingRow
from redistill.evaluation.types import Outcome
from redistill.io.parquet import read_records
from tests.cycles import Command, with_registry
from tests.tiny_project import LABELS, make_tiny_project, write_params

pytestmark = pytest.mark.cycles

SCHEMA = {
    "type": "object",
    "properties": {"topic": {"enum": LABELS}, "urgent": {"type": "boolean"}},
    "required": ["topic", "urgent"],
    "additionalProperties": False,
}
JSON: dict[str, Any] = {
    "data__task": "json",
    "data__record": None,
    "data__schema": SCHEMA,
    "generate__max_tokens": 48,
    "benchmark__max_tokens": 48,
    "finetune__arms": {"gold": {"rows": "gold"}, "kd": {"rows": "gold_and_teacher", "alpha": 0.5}},
    "promote__gates": [{"name": "teacher", "margin": 0.6}, "critical_labels", "smaller"],
    "promote__critical_labels": {"topic=card": 0.05},
    "route__max_disagreement": 0.01,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Path:
    made = with_registry(make_tiny_project(tmp_path_factory.mktemp("json"), **JSON), empty_registry)
    rows = [json.loads(line) for line in (made / "labelled.jsonl").read_text(encoding="utf-8").splitlines()]
    # Keys in another order than the schema's: the labels of one file need not have one spelling.
    labelled = [{**row, "label": {"urgent": "urgent" in row["text"], "topic": row["label"]}} for row in rows]
    (made / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled), encoding="utf-8")
    return made


def outcomes(project: Path, name: str) -> list[Outcome]:
    return read_records(project / f"artifacts/benchmark/{name}/outcomes.parquet", Outcome)


def test_objects_are_learnt_judged_and_shown_by_path(project: Path, redistill: Command) -> None:
    done = redistill(project, "run", "--json", "--reason", "json")
    assert done.code == 0, done.stderr[-3000:]
    kept = read_records(project / "artifacts/validated/kept.parquet", TrainingRow)
    assert kept and all(row.completion.lstrip().startswith('{"topic": "') for row in kept)
    assert all(json.loads(row.completion)["topic"] in LABELS for row in kept)
    teacher = outcomes(project, "teacher")
    assert sum(o.response.startswith('{"topic": "') for o in teacher) > 0.8 * len(teacher) and any(o.exact for o in teacher)
    tree = json.loads((project / "artifacts/report/report.json").read_text(encoding="utf-8"))
    assert tree["arms"]["kd"]["fields"].keys() == {"topic", "urgent"} and "linear" not in tree["arms"]
    gates = {gate["name"]: gate for gate in tree["decision"]["gates"]}
    assert "topic=card found in" in gates["recall_topic=card"]["sentence"]
    page = (project / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert "topic" in page and "topic=card found in" in page


def test_weights_that_learnt_nothing_still_write_valid_objects_when_held(project: Path, redistill: Command) -> None:
    """With structured outputs nothing is malformed, and the page says what would be without them."""
    # The same teacher, and no limit that a cycle could end at before it trains.
    starved = {**JSON, "data__structured_outputs": True, "finetune__common__tokens": 400, "promote__on_unfit_teacher": "continue"}
    write_params(project, **starved)
    done = redistill(project, "run", "--json", "--reason", "held to the form")
    assert done.code == 0, done.stderr[-3000:]
    arms = json.loads((project / "artifacts/report/report.json").read_text(encoding="utf-8"))["arms"]
    assert all(arms[name]["malformed"] == 0 for name in ("teacher", "base", "gold", "kd"))
    assert arms["base"]["malformed_freely"] == arms["base"]["n"] > 0
    page = (project / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert "in brackets, without structured outputs" in page and f"0 ({arms['base']['n']})" in page
