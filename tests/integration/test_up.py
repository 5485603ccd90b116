"""`redistill up` and `down` with real servers: what starts, what starts again, what is refused, and what ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.box import Box, edit, wait_for
from tests.cycles import user_environment
from tests.servers import ask, free_port, until
from tests.tiny_project import make_tiny_project

YEARLY = "17 4 1 1 *"
ARE_NIGHTS_ON = """
from redistill.operations.workspace import Workspace
from tasks.orchestration.turns import nights_are_on
print(nights_are_on(Workspace.here("tiny")))
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    project = make_tiny_project(tmp_path_factory.mktemp("box") / "project", schedule={"nightly_cron": YEARLY, "timezone": "Europe/Berlin"})
    box = Box(project, free_port(), free_port())
    started = box.up()
    try:
        assert started.returncode == 0, started.stderr
        yield box
    finally:
        box.run("down")


def test_all_three_are_ready_and_a_second_call_changes_nothing(box: Box) -> None:
    pids = {service: box.pid(service) for service in ("prefect", "mlflow", "runner")}
    assert all(psutil.pid_exists(pid) for pid in pids.values())
    until(f"{box.api}/health", timeout_s=5)
    until(f"http://127.0.0.1:{box.mlflow}/health", timeout_s=5)
    again = box.up()
    assert again.returncode == 0 and "runs already" in again.stdout, again.stderr
    plain = box.run("up", "--json")
    assert plain.returncode == 0, "without options, what runs is what is meant"
    assert json.loads(plain.stdout.splitlines()[-1])["prefect"] == f"http://127.0.0.1:{box.prefect}"
    other = box.run("up", "--prefect-port", "4999")
    assert other.returncode == 2 and "run `redistill down` first" in other.stderr
    assert {service: box.pid(service) for service in pids} == pids
    # Where nobody reads what a server logs, its first line ends it; here each has a file.
    assert len(box.log("prefect").splitlines()) > 3 and "started!" in box.log("runner")


def test_deployments_carry_the_project_and_its_time_zone(box: Box) -> None:
    deployed = box.deployments()
    assert {flow: d["name"] for flow, d in deployed.items()} == {
        "distill_student": "tiny-nightly",
        "watch_teacher": "tiny",
        "drill_fallback": "tiny",
        "monitor_traffic": "tiny",
        "promote_student": "tiny",
    }
    schedule = deployed["distill_student"]["schedules"][0]["schedule"]
    assert (schedule["cron"], schedule["timezone"]) == (YEARLY, "Europe/Berlin")
    assert all("data:tiny" in d["tags"] and str(box.project) in d["description"] for d in deployed.values())
    # A slot of a Prefect limit is lost when a run is killed; the project's own lock is not.
    assert all(d["concurrency_limit"] is None and d["global_concurrency_limit"] is None for d in deployed.values())
    form = deployed["promote_student"]["parameter_openapi_schema"]
    assert form["properties"]["action"]["enum"] == ["approve", "reject", "rollback"]
    assert set(form["required"]) == {"action", "reason"} and form["properties"]["version"]["default"] == "challenger"


def test_commands_use_the_servers_while_they_run(box: Box) -> None:
    assert box.run("status", "--json").returncode == 0
    listed = ask("GET", f"http://127.0.0.1:{box.mlflow}/api/2.0/mlflow/registered-models/search").json()
    assert [model["name"] for model in listed["registered_models"]] == ["tiny"]


def test_a_paused_schedule_stays_paused_when_the_cron_changes(box: Box) -> None:
    nightly = box.deployments()["distill_student"]
    [schedule] = nightly["schedules"]
    url = f"{box.api}/deployments/{nightly['id']}/schedules/{schedule['id']}"
    assert ask("PATCH", url, json={"active": False}).status_code == 204
    edit(box, schedule={"nightly_cron": "18 4 1 1 *"})
    os.kill(box.pid("runner"), signal.SIGKILL)
    wait_for(lambda: box.deployments()["distill_student"]["schedules"][0]["schedule"]["cron"] == "18 4 1 1 *")
    changed = box.deployments()["distill_student"]
    assert changed["id"] == nightly["id"] and changed["schedules"][0]["active"] is False
    # The watcher starts nights that were missed, but not where a person wants none.
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, '.')\n{ARE_NIGHTS_ON}"]
    environment = {**user_environment(), "PREFECT_API_URL": box.api, "PYTHONPATH": f"{box.project}/src"}
    assert subprocess.run(command, cwd=box.project, env=environment, capture_output=True, text=True, check=True).stdout.strip() == "False"
    assert ask(
        "PATCH", f"{box.api}/deployments/{nightly['id']}/schedules/{changed['schedules'][0]['id']}", json={"active": True}
    ).is_success
    assert subprocess.run(command, cwd=box.project, env=environment, capture_output=True, text=True, check=True).stdout.strip() == "True"


RECEIVER = """
import http.server, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open(sys.argv[1], "a") as file:
            file.write(body + "\\n")
        self.send_response(200)
        self.end_headers()
    do_GET = do_POST
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
"""
TELL = """
from redistill.operations.workspace import Workspace
from tasks.orchestration.alerting import alert
here = Workspace.here("tiny")
print([alert(here, "teacher-refused", about, "it is worse") for about in sys.argv[1:]])
"""


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a web server that writes what it is sent into a file."""
    received = tmp_path / "received.jsonl"
    received.touch()
    with subprocess.Popen([sys.executable, "-c", RECEIVER, str(received)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), received
        process.terminate()


def test_an_alert_reaches_the_blocks_of_the_user_once(box: Box, receiver: tuple[int, Path]) -> None:
    port, received = receiver
    kind = ask("GET", f"{box.api}/block_types/slug/custom-webhook").json()
    schemas = ask("POST", f"{box.api}/block_schemas/filter", json={"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}})
    block = {
        "name": "team",
        "block_type_id": kind["id"],
        "block_schema_id": schemas.json()[0]["id"],
        "data": {"name": "team", "url": f"http://127.0.0.1:{port}/", "json_data": {"title": "{{subject}}", "text": "{{body}}"}},
    }
    assert ask("POST", f"{box.api}/block_documents/", json=block).status_code == 201
    edit(box, notify={"blocks": ["custom-webhook/team"]})
    os.kill(box.pid("runner"), signal.SIGKILL)

    def automations() -> set[str]:
        return {a["name"] for a in ask("POST", f"{box.api}/automations/filter", json={}).json()}

    wait_for(lambda: "redistill tiny: tell custom-webhook/team" in automations())
    assert automations() == {"redistill tiny: tell custom-webhook/team", "redistill tiny: runs without a heartbeat"}
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, '.')\n{TELL}", *["teacher a"] * 10, "teacher b"]
    environment = {**user_environment(), "PREFECT_API_URL": box.api, "PYTHONPATH": f"{box.project}/src"}
    printed = subprocess.run(command, cwd=box.project, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == str([True, *[False] * 9, True]), "ten nights are one message"
    wait_for(lambda: len(received.read_text(encoding="utf-8").splitlines()) == 2)
    messages = [json.loads(line) for line in received.read_text(encoding="utf-8").splitlines()]
    assert messages == [{"title": "tiny: a new teacher was refused", "text": "it is worse"}] * 2


def test_another_folder_with_the_same_name_is_refused(box: Box, tmp_path: Path) -> None:
    copy = shutil.copytree(box.project, tmp_path / "copy", ignore=shutil.ignore_patterns(".redistill", "__pycache__"))
    refused = box.run("watch", folder=copy, PREFECT_API_URL=box.api)
    assert refused.returncode == 2
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "tiny-nightly" in line and "belongs to another project folder" in line and "data.name" in line


def test_a_server_that_is_killed_starts_again(box: Box) -> None:
    before = box.pid("prefect")
    os.killpg(before, signal.SIGKILL)
    wait_for(lambda: box.pid("prefect") != before)
    until(f"{box.api}/health", timeout_s=120)
    assert "Prefect was ended by signal 9; starting it again" in box.log("supervisor")
    assert set(box.deployments()) == {"distill_student", "watch_teacher", "drill_fallback", "monitor_traffic", "promote_student"}, (
        "its database is a file"
    )


def test_up_takes_over_what_a_killed_supervisor_left(box: Box) -> None:
    servers = {service: box.pid(service) for service in ("prefect", "mlflow")}
    os.kill(box.pid("supervisor"), signal.SIGKILL)
    assert box.up().returncode == 0
    assert {service: box.pid(service) for service in servers} == servers
    assert "MLflow already runs" in box.log("supervisor")


def test_down_ends_what_up_started_and_no_more(box: Box) -> None:
    pids = [box.pid(service) for service in ("supervisor", "runner", "mlflow", "prefect")]
    with subprocess.Popen(["sleep", "600"], cwd=box.project, start_new_session=True) as other:
        done = box.run("down", "--json")
        assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1]) == {"ended": ["the runner", "MLflow", "Prefect"]}
        assert not any(psutil.pid_exists(pid) for pid in pids) and other.poll() is None
        other.terminate()
    again = box.run("down")
    assert (again.returncode, again.stdout.strip()) == (0, "nothing of this project was running")


@pytest.mark.parametrize("created", [0.0, 1e10])
def test_a_process_that_has_the_number_of_an_old_one_is_left_alone(tmp_path: Path, created: float) -> None:
    from tasks.operations import background_process

    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        record = tmp_path / "server.json"
        record.write_text(json.dumps({"pid": other.pid, "created": created}), encoding="utf-8")
        assert background_process.end(record) is None and other.poll() is None and not record.exists()
        other.terminate()


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    project = make_tiny_project(tmp_path / "project")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = Box(project, other.getsockname()[1], free_port()).up()
    assert taken.returncode == 2, taken.stderr
    [line] = [line for line in taken.stderr.splitlines() if line.startswith("error: ")]
    assert "is used by a program that `redistill up` did not start" in line and "--prefect-port" in line
    assert not list((project / ".redistill/services").glob("*.json")), "nothing is left running"


def test_the_systemd_unit(tmp_path: Path) -> None:
    project = make_tiny_project(tmp_path / "project")
    done = Box(project, 4321, 5321).run("up", "--systemd", "--prefect-port", "4321", "--mlflow-port", "5321", "--json")
    assert done.returncode == 0, done.stderr
    unit = Path(json.loads(done.stdout.splitlines()[-1])["unit"])
    text = unit.read_text(encoding="utf-8")
    assert unit.name == "redistill-tiny.service" and f"WorkingDirectory={project}\n" in text
    assert "tasks.operations.supervisor 127.0.0.1 4321 5321\n" in text and "Restart=always\n" in text
    if shutil.which("systemd-analyze"):
        assert "checked by systemd-analyze" in Box(project, 1, 1).run("up", "--systemd").stdout
