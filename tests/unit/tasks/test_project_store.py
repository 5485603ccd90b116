"""Which MLflow store is the project's own: also the one that `redistill up` serves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from redistill.io.json import write_json
from redistill.runtime.running_services import ADDRESSES
from tasks.operations.kept.project_store import is_project_store, use_project_store

SERVED = "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("served", "named", "own"),
    [
        (None, None, True),
        (None, SERVED, False),
        ({"mlflow": None, "MLFLOW_TRACKING_URI": SERVED}, SERVED, True),
        ({"mlflow": None, "MLFLOW_TRACKING_URI": SERVED}, "http://team:5000", False),
        ({"mlflow": "http://team:5000", "MLFLOW_TRACKING_URI": "http://team:5000"}, "http://team:5000", False),
    ],
    ids=["no server", "a server", "that of redistill up", "another one", "redistill up with a team's server"],
)
def test_the_server_of_redistill_up_serves_the_projects_own_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: dict[str, str | None] | None, named: str | None, own: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {**os.environ})
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if named is not None:
        os.environ["MLFLOW_TRACKING_URI"] = named
    if served is not None:
        write_json(ADDRESSES, served)
    use_project_store()
    assert is_project_store() == own
    assert os.environ.get("MLFLOW_TRACKING_URI") == (None if own else named)
