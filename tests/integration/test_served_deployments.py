"""`redistill watch` against a real Prefect server: cycle, watcher and a person's form stand there, one run of each at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from redistill.runtime.environment import child_environment
from tests.servers import stop, until
from tests.tiny_project import make_tiny_project

BIN = Path(sys.executable).parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    # Every fifth second, by a cron with a sixth field: a nightly cycle that need not be waited for.
    return make_tiny_project(tmp_path / "project", schedule={"nightly_cron": "* * * * * */5", "watch_cron": "17 3 * * *"})


@pytest.fixture
def serving(project: Path, prefect_api: str, prefect_home: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {k: v for k, v in child_environment().items() if k != "PYTHONPATH"}
    env |= {"PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": prefect_api, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    process = subprocess.Popen(
        [str(BIN / "redistill"), "-C", str(project), "watch"], env=env, start_new_session=True, stdout=subprocess.DEVNULL
    )
    yield process
    stop(process)
    for deployment in httpx.post(f"{prefect_api}/deployments/filter", json={}, timeout=30).json():
        httpx.delete(f"{prefect_api}/deployments/{deployment['id']}", timeout=30)


def test_nightly_and_watcher_are_served_and_the_cron_starts_a_run(
    project: Path, serving: subprocess.Popen[bytes], prefect_api: str, prefect_server: Path
) -> None:
    url = f"{prefect_api}/deployments/filter"
    found = until(url, "POST", {}, lambda r: r.status_code == 200 and len(r.json()) == 3, process=serving).json()
    crons = {d["name"]: d["schedules"][0]["schedule"]["cron"] for d in found if d["schedules"]}
    assert crons == {"nightly": "* * * * * */5", "watch": "17 3 * * *"}
    assert {d["entrypoint"].split(":")[0] for d in found} == {
        "flows/distill_student.py",
        "flows/promote_student.py",
        "flows/watch_teacher.py",
    }
    assert all(d["concurrency_limit"] == 1 or d["global_concurrency_limit"] for d in found)
    form = next(d for d in found if d["name"] == "by-hand")["parameter_openapi_schema"]["properties"]
    assert form["action"]["enum"] == ["approve", "reject", "rollback"] and form["version"]["default"] == "challenger"
    assert "recorded with your name and the time" in form["reason"]["description"]

    nightly = next(d["id"] for d in found if d["name"] == "nightly")
    started = {"flow_runs": {"deployment_id": {"any_": [nightly]}, "start_time": {"is_null_": False}}}
    [run, *_] = until(
        f"{prefect_api}/flow_runs/filter", "POST", started, lambda r: r.status_code == 200 and r.json(), timeout_s=90, process=serving
    ).json()
    assert run["auto_scheduled"] and run["parameters"] == {"reason": "nightly"}
    log = (prefect_server / ".redistill/prefect-server/server.log").read_text(encoding="utf-8")
    assert "bulk_dml" not in log, "no loop of the scheduler fails, as all do with SQLAlchemy 2.1"
