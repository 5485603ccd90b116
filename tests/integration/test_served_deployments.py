"""`redistill watch` against a real Prefect server: cycle, watcher and a person's form stand there, one run of each at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redistill.environment import child_environment
from tests.servers import free_port, stop, until
from tests.tiny_project import make_tiny_project

BIN = Path(sys.executable).parent


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    clean = {k: v for k, v in child_environment().items() if not k.startswith("PREFECT_API")}
    env = {**clean, "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_URL": api}
    process = subprocess.Popen(
        [str(BIN / "prefect"), "server", "start", "--port", str(port)], env=env, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        until(f"{api}/health")
        yield env
    finally:
        stop(process)


def test_nightly_and_watcher_are_served(tmp_path: Path, server: dict[str, str]) -> None:
    project = make_tiny_project(tmp_path / "project", schedule={"nightly_cron": "17 3 * * *"})
    env = {k: v for k, v in server.items() if k != "PYTHONPATH"}
    serving = subprocess.Popen(
        [str(BIN / "redistill"), "-C", str(project), "watch"], env=env, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        url = f"{server['PREFECT_API_URL']}/deployments/filter"
        found = until(url, "POST", {}, lambda r: r.status_code == 200 and len(r.json()) == 3).json()
    finally:
        stop(serving)
    crons = {d["name"]: d["schedules"][0]["schedule"]["cron"] for d in found if d["schedules"]}
    assert crons == {"nightly": "17 3 * * *", "watch": "*/30 * * * *"}
    assert {d["entrypoint"].split(":")[0] for d in found} == {
        "flows/distill_student.py",
        "flows/promote_student.py",
        "flows/watch_teacher.py",
    }
    assert all(d["concurrency_limit"] == 1 or d["global_concurrency_limit"] for d in found)
    form = next(d for d in found if d["name"] == "by-hand")["parameter_openapi_schema"]["properties"]
    assert form["answer"]["enum"] == ["approve", "reject", "rollback"] and form["version"]["default"] == "challenger"
    assert "recorded with who and when" in form["reason"]["description"]
