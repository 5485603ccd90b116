"""Whole cycles of a teacher with a prompt of its own: the report has the raw teacher with examples, and another prompt is another teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.io.json import read_json
from tests.cycles import Command, with_registry
from tests.tiny_project import make_tiny_project, write_params

pytestmark = pytest.mark.cycles

SHOWN = {
    "teacher__prompt": {"system": "Sort the bank's mail.", "examples": 2},
    "finetune__common__supervise": "completion",
    "finetune__common__tokens": 4000,
    "finetune__arms": {"gold": {"rows": "gold"}, "kd": {"rows": "gold_and_teacher", "alpha": 0.5}},
    "benchmark__fairness": None,
    "benchmark__latency_requests": 6,
    "benchmark__few_shot": 2,
}


def test_a_cycle_with_a_teacher_prompt_and_one_with_another(tmp_path: Path, redistill: Command, empty_registry: Path) -> None:
    project = make_tiny_project(tmp_path / "project", **SHOWN)
    stages = project / "dvc.yaml"
    stages.write_text(stages.read_text(encoding="utf-8").replace("# prompted:", "prompted:"), encoding="utf-8")
    with_registry(project, empty_registry)
    first = redistill(project, "run", "--json")
    assert first.code == 0, first.stderr[-3000:]
    assert set(first.result["stages"].values()) == {"ran"} and "benchmark@prompted" in first.result["stages"]
    report = read_json(project / "artifacts" / "report" / "report.json")
    assert list(report["arms"]) == ["teacher", "prompted", "linear", "base", "gold", "kd"]
    read = {who: arm["cost"]["prompt_tokens_per_request"] for who, arm in report["arms"].items()}
    assert read["teacher"] == read["prompted"] > 1.5 * read["kd"] and read["kd"] == read["base"]
    assert "latency_p50_s" not in report["arms"]["prompted"]["cost"] and report["economics"]["usd_per_1000_requests"]["prompted"] is None
    page = (project / "artifacts" / "report" / "index.html").read_text(encoding="utf-8")
    assert "the raw teacher with examples" in page
    again = redistill(project, "run", "--json")
    assert again.code == 0, again.stderr[-3000:]
    assert set(again.result["stages"].values()) == {"unchanged"}

    before = read_json(project / "teacher.lock.json")["current"]
    write_params(project, **{**SHOWN, "teacher__prompt": {"system": "Read the bank's mail.", "examples": 2}})
    accepted = redistill(project, "lock", "--accept-teacher", "--reason", "a better instruction", "--json")
    assert accepted.code == 0, accepted.stderr[-3000:]
    other = redistill(project, "run", "--json")
    assert other.code == 0, other.stderr[-3000:]
    events = redistill(project, "history", "--json").result["events"]
    assert any(e["kind"] == "teacher-accepted" for e in events), "another prompt is tried like any other new teacher"
    now = read_json(project / "teacher.lock.json")["current"]
    assert {part for part in now["parts"] if now["parts"][part] != before["parts"][part]} == {"weights", "prompt"}, "it was tuned with it"
    assert "the new teacher is shown another prompt, so the same row asks it something else" in other.stdout + other.stderr
    assert {other.result["stages"][stage] for stage in ("tune_teacher", "generate", "score", "finetune@kd")} == {"ran"}
    assert read_json(project / "artifacts" / "teacher" / "teacher_prompt.json")["system"] == "Read the bank's mail."
