"""A cycle whose work is done ends as completed, whatever happens to what is only shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from redistill.operations.workspace import Workspace
from redistill.params import load_params
from tasks.orchestration import cycle_close
from tasks.registry.cycle_summaries import recent_cycles
from tasks.registry.runs_and_versions import open_run
from tasks.reporting.cycle_progress import CycleProgress
from tests.cycles import with_registry
from tests.tiny_project import make_tiny_project

OUTCOME = {
    "verdict": "promote", "model_version": "4", "route": "student", "blocked": None, "reasons": [], "gates": [], "sentence": "promoted version 4",
}  # fmt: skip


def test_what_is_only_shown_does_not_fail_a_cycle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_registry: Path, prefect_api: str
) -> None:
    """The page of trends cannot be written, because a file has the name of its folder."""
    project = with_registry(make_tiny_project(tmp_path / "project"), empty_registry)
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (project / "artifacts").mkdir(exist_ok=True)
    (project / "artifacts/trends").write_text("in the way", encoding="utf-8")
    params = load_params()
    workspace = Workspace.here(params.data.name)
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        cycle = cycle_close.OpenCycle(params, workspace, *open_run(params, "nightly", ""))
        outcome = cycle_close.close(cycle, OUTCOME, CycleProgress(1, workspace))
        cycle_close.close_failed(cycle, RuntimeError("an error after the end"))
    assert outcome["sentence"] == "promoted version 4"
    [night] = recent_cycles(params)
    assert (night.status, night.sentence, night.student_share) == ("completed", "promoted version 4", 1.0)
