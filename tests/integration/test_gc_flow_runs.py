"""Old flow runs of this project's folder, and of no other, go from a real Prefect server, with their logs."""

from __future__ import annotations

import datetime as dt
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from redistill.operations.params import RetentionParams
from redistill.operations.workspace import Workspace
from tasks.operations.gc.flow_runs import FLOW_RUNS, sweep_flow_runs
from tests.servers import ask, until

RETENTION = RetentionParams(days=30)


@pytest.fixture
def api(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    return prefect_api


def flow_run(api: str, tags: list[str], state: str = "COMPLETED") -> str:
    """A flow run with one line of log, as the server records it. No flow runs."""
    flow = ask("POST", f"{api}/flows/", json={"name": "watch-teacher"}).raise_for_status().json()["id"]
    body = {"flow_id": flow, "tags": tags, "state": {"type": state}}
    run = str(ask("POST", f"{api}/flow_runs/", json=body).raise_for_status().json()["id"])
    line = {"name": "tests", "level": 20, "message": "a line", "timestamp": dt.datetime.now(dt.UTC).isoformat(), "flow_run_id": run}
    ask("POST", f"{api}/logs/", json=[line]).raise_for_status()
    return run


def age(home: Path, runs: list[str]) -> None:
    """Two months earlier, in the server's own file."""
    then = (dt.datetime.now(dt.UTC) - dt.timedelta(days=60)).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(home / "prefect.db", timeout=60)) as database, database:
        for run in runs:
            changed = database.execute(
                "UPDATE flow_run SET start_time = ?, end_time = ?, expected_start_time = ? WHERE id = ?", (then, then, then, run)
            )
            assert changed.rowcount == 1


def logs(api: str, run: str) -> httpx.Response:
    return ask("POST", f"{api}/logs/filter", json={"logs": {"flow_run_id": {"any_": [run]}}}).raise_for_status()


def there(api: str, runs: list[str]) -> list[bool]:
    return [ask("GET", f"{api}/flow_runs/{run}").status_code == 200 for run in runs]


def test_old_flow_runs_of_this_project_go_with_their_logs(api: str, prefect_home: Path) -> None:
    here, copy = (Workspace("tiny", Path(f"/{uuid.uuid4().hex}"), "host") for _ in range(2))
    tagged, young, running, other = (
        flow_run(api, [*here.tags, "more"]),
        flow_run(api, here.tags),
        flow_run(api, here.tags, "RUNNING"),
        flow_run(api, copy.tags),
    )
    cycle, needed = flow_run(api, []), flow_run(api, [])
    age(prefect_home, [tagged, running, other, cycle, needed])
    cycles = {cycle: None, needed: "a kept version", str(uuid.uuid4()): None}
    every = [tagged, young, running, other, cycle, needed]
    planned = sweep_flow_runs(here, cycles, RETENTION, time.time(), dry_run=True)
    assert there(api, every) == [True] * 6, "a dry run changes nothing"
    done = sweep_flow_runs(here, cycles, RETENTION, time.time(), dry_run=False)
    assert planned == done and done.removed == 2, done
    assert {kept.reason: kept.count for kept in done.kept} == {"younger than 30 days": 1, "not ended": 1, "a kept version": 1}
    assert there(api, every) == [False, True, True, True, False, True]
    until(
        f"{api}/logs/filter",
        "POST",
        {"logs": {"flow_run_id": {"any_": [tagged, cycle]}}},
        lambda r: r.status_code == 200 and r.json() == [],
    )
    assert len(logs(api, other).json()) == 1
    assert sweep_flow_runs(here, cycles, RETENTION, time.time(), dry_run=False).removed == 0


def test_more_flow_runs_than_one_page(api: str, prefect_home: Path) -> None:
    here = Workspace("tiny", Path(f"/{uuid.uuid4().hex}"), "host")
    runs = [flow_run(api, here.tags) for _ in range(5)]
    age(prefect_home, runs)
    assert sweep_flow_runs(here, {}, RETENTION, time.time(), dry_run=False, page=2, at_once=2).removed == 5
    assert there(api, runs) == [False] * 5


def test_without_a_server_nothing_is_removed_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert "PREFECT_API_URL is not set" in sweep_flow_runs(Workspace("tiny", Path("/"), "host"), {}, RETENTION, 0.0, dry_run=False).note
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    swept = sweep_flow_runs(Workspace("tiny", Path("/"), "host"), {}, RETENTION, 0.0, dry_run=False)
    assert (swept.kind, swept.removed) == (FLOW_RUNS, 0)
    assert swept.note.startswith("Prefect's server at http://127.0.0.1:9/api cannot be used (") and swept.note.endswith(
        "its flow runs stay"
    )
