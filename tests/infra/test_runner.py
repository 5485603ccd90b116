"""The runner as a container starts it, against a real Prefect server: it deploys to a pool, says that it is healthy, and a cycle that is started through the pool ends."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redistill.operations.workspace import Workspace
from redistill.runtime.environment import child_environment
from tests.servers import ask, free_port, stop, until
from tests.tiny_project import make_tiny_project

pytestmark = pytest.mark.long
BIN = Path(sys.executable).parent
YEARLY = "17 4 1 1 *"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_tiny_project(tmp_path / "project", schedule={"nightly_cron": YEARLY, "watch_cron": "17 3 * * *"})


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def runner(project: Path, port: int, prefect_api: str, prefect_home: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {k: v for k, v in child_environment().items() if k != "PYTHONPATH"} | {
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_API_URL": prefect_api,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
    }
    process = subprocess.Popen([str(BIN / "redistill"), "watch"], cwd=project, env=env, start_new_session=True)
    yield process
    stop(process)
    for deployment in ask("POST", f"{prefect_api}/deployments/filter", json={}).json():
        ask("DELETE", f"{prefect_api}/deployments/{deployment['id']}")
    ask("DELETE", f"{prefect_api}/work_pools/{Workspace('tiny', project.resolve(), socket.gethostname()).pool}")


def test_a_cycle_from_the_pool(runner: subprocess.Popen[bytes], port: int, project: Path, prefect_api: str) -> None:
    until(f"http://127.0.0.1:{port}/health", timeout_s=180, process=runner)
    found = ask("POST", f"{prefect_api}/deployments/filter", json={}).json()
    assert {d["name"]: d["work_pool_name"] for d in found} == dict.fromkeys(
        ("tiny-nightly", "tiny"), Workspace("tiny", project.resolve(), socket.gethostname()).pool
    )
    crons = {d["entrypoint"].split(".")[1]: d["schedules"][0]["schedule"]["cron"] for d in found if d["schedules"]}
    assert crons == {
        "distill_student": YEARLY,
        "watch_teacher": "17 3 * * *",
        "drill_fallback": "30 1 * * *",
        "monitor_traffic": "45 */4 * * *",
    }

    nightly = next(d["id"] for d in found if d["name"] == "tiny-nightly")
    created = ask("POST", f"{prefect_api}/deployments/{nightly}/create_flow_run", json={})
    assert created.status_code == 201, created.text
    ended = until(
        f"{prefect_api}/flow_runs/{created.json()['id']}",
        good=lambda r: r.json()["state_type"] in ("COMPLETED", "FAILED", "CRASHED"),
        timeout_s=600,
    ).json()
    assert ended["state_type"] == "COMPLETED", ended["state"]
    assert ended["parameters"] == {"reason": "nightly"}
    assert (project / "artifacts/report/index.html").is_file()
