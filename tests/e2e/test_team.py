"""A night on the servers of a team: Prefect and MLflow on PostgreSQL, files on S3, a password for each, and no secret left anywhere."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tasks.operations import background_process
from tests.box import Box
from tests.cycles import FirstCycle
from tests.e2e.test_promotion import LENIENT
from tests.servers import LOG, RECORD, free_port, start_prefect
from tests.team import secrets
from tests.team.backing import TeamServices
from tests.team.mlflow_server import ADMIN, ADMIN_PASSWORD, team_mlflow
from tests.team.object_store import SECRET_KEY
from tests.team.postgres import PASSWORD
from tests.tiny_project import write_params

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

PREFECT_USER, PREFECT_PASSWORD = "nightly", "prefect:p@ss/word%3"
SECRETS = {
    "the database's password": PASSWORD,
    "the object store's key": SECRET_KEY,
    "MLflow's password": ADMIN_PASSWORD,
    "Prefect's password": PREFECT_PASSWORD,
    "the endpoint's key": "sk-teacher/0123456789+abcdef",
}


def with_password(address: str, user: str, password: str) -> str:
    return address.replace("://", f"://{user}:{quote(password, safe='')}@")


@dataclass(frozen=True)
class Team:
    """A project whose runner works on a team's servers. ``box.environment`` has the passwords inside the addresses."""

    box: Box
    api: str
    mlflow: str
    folder: Path
    services: TeamServices

    def ask(self, method: str, path: str, json: object = None) -> Any:
        """One question to Prefect's API, as somebody with the password."""
        reply = httpx.request(method, f"{self.api}/{path}", json=json, auth=(PREFECT_USER, PREFECT_PASSWORD), timeout=60)
        return reply.raise_for_status().json()

    def start_night(self) -> str:
        """The id of a run of the nightly deployment."""
        deployment = self.ask("GET", "deployments/name/distill-student/tiny-nightly")
        return str(self.ask("POST", f"deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"])

    def ended(self, run: str, timeout_s: float = 800.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            now = self.ask("GET", f"flow_runs/{run}")
            if now["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return dict(now)
            assert time.monotonic() < deadline, (now["state"], self.box.log("runner")[-3000:])
            time.sleep(0.5)


@pytest.fixture(scope="module")
def team(first_cycle: FirstCycle, team_services: TeamServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("night")
    project = Path(shutil.copytree(first_cycle.template, folder / "project", symlinks=True))
    write_params(project, **LENIENT, schedule={"nightly_cron": "17 4 1 1 *"})
    cluster, store = team_services.cluster, team_services.store
    for database in ("night_prefect", "night_mlflow"):
        cluster.create(database)
    store.create("night")
    port, servers = free_port(), folder / "servers"
    servers.mkdir()
    start_prefect(
        servers,
        port,
        folder / "prefect-home",
        PREFECT_SERVER_DATABASE_CONNECTION_URL=cluster.address("night_prefect", driver="+asyncpg"),
        PREFECT_SERVER_API_AUTH_STRING=f"{PREFECT_USER}:{PREFECT_PASSWORD}",
    )
    try:
        with team_mlflow(servers, cluster.address("night_mlflow"), store, bucket="night", password=ADMIN_PASSWORD) as mlflow:
            api = f"http://127.0.0.1:{port}/api"
            environment = {
                "PREFECT_API_URL": with_password(api, PREFECT_USER, PREFECT_PASSWORD),
                "MLFLOW_TRACKING_URI": with_password(mlflow, ADMIN, ADMIN_PASSWORD),
                "REDISTILL_USER": "nightly",
                "REDISTILL_TEACHER_API_KEY": SECRETS["the endpoint's key"],
                **{name: value for name, value in store.environment().items() if name.startswith("AWS_")},
            }
            made = Team(Box(project, port, 0, environment), api, mlflow, folder, team_services)
            started = made.box.run("up")
            assert started.returncode == 0, started.stderr + made.box.log("runner")[-2000:]
            (folder / "up.txt").write_text(started.stdout + started.stderr, encoding="utf-8")
            try:
                yield made
            finally:
                made.box.run("down")
    finally:
        background_process.end(servers / RECORD)


@pytest.fixture(scope="module")
def night(team: Team) -> dict[str, Any]:
    return team.ended(team.start_night())


def test_a_night_on_a_teams_servers(team: Team, night: dict[str, Any]) -> None:
    assert night["state_type"] == "COMPLETED", night["state"]
    status = team.box.run("status", "--json")
    assert status.returncode == 0, status.stderr
    live = json.loads(status.stdout.splitlines()[-1])
    assert (live["champion"], live["route"], live["moved_outside"]) == ("1", "student", None)
    assert team.box.run("lineage", "champion").returncode == 0
    assert any(name.endswith("model.safetensors") for name in team.services.store.objects("night")), "the weights are in the bucket"


def test_by_hand_it_is_the_same_project(team: Team, night: dict[str, Any]) -> None:
    """A run by hand uses both servers too, and finds nothing to do."""
    done = team.box.run("run", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert set(outcome["stages"].values()) == {"unchanged"} and outcome["model_version"] == "1"
    (team.folder / "by-hand.txt").write_text(done.stdout + done.stderr, encoding="utf-8")


WRONG: dict[str, tuple[dict[str, str], tuple[str, ...], int, str]] = {
    "MLflow's password": (
        {"MLFLOW_TRACKING_PASSWORD": "wrong"},
        ("status",),
        6,
        "the server refused user or password: set MLFLOW_TRACKING_USERNAME",
    ),
    "Prefect's password": ({"PREFECT_API_AUTH_STRING": "nightly:wrong"}, ("run",), 2, "refused the password; set PREFECT_API_AUTH_STRING"),
    "MLflow's port": (
        {"MLFLOW_TRACKING_URI": "http://u:secret-word@127.0.0.1:9"},
        ("status",),
        6,
        "MLflow at http://127.0.0.1:9 cannot be used",
    ),
    "Prefect's port": (
        {"PREFECT_API_URL": "http://u:secret-word@127.0.0.1:9/api"},
        ("run",),
        2,
        "http://127.0.0.1:9/api: nothing answers there",
    ),
    "no port": ({"MLFLOW_TRACKING_URI": "http://u:secret-word@host:port"}, ("status",), 2, "is not an address"),
    "no host": ({"PREFECT_API_URL": "http://u:secret-word@/api"}, ("run",), 2, "names no host"),
    "a database": (
        {"MLFLOW_TRACKING_URI": "postgresql://u:secret-word@127.0.0.1/x"},
        ("status",),
        2,
        "postgresql://127.0.0.1/x is a database",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_passwords_and_addresses_are_one_line(team: Team, name: str) -> None:
    """A variable of its own for a password counts more than one inside an address."""
    changes, arguments, code, says = WRONG[name]
    done = team.box.run(*arguments, **changes)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code and says in lines[-1] and lines[-1].startswith("error: "), done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "secret-word" not in done.stderr + done.stdout


def test_a_server_of_another_kind_is_one_line(team: Team) -> None:
    done = team.box.run("run", PREFECT_API_URL=team.services.url)
    assert done.returncode == 2 and "is not Prefect's API" in done.stderr.strip().splitlines()[-1], done.stderr[-2000:]


def test_an_account_that_may_only_read(team: Team, night: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.server import get_app_client

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)
    get_app_client("basic-auth", team.mlflow).create_user("reader", "a-password-of-the-reader")
    reader = {"MLFLOW_TRACKING_USERNAME": "reader", "MLFLOW_TRACKING_PASSWORD": "a-password-of-the-reader"}
    assert team.box.run("history", **reader).returncode == 0
    done = team.box.run("reject", "1", "--reason", "not mine", **reader)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 6 and "give it the permission EDIT" in line and "Traceback" not in done.stderr, done.stderr[-2000:]


def test_the_databases_are_restarted_in_mid_cycle(team: Team, night: dict[str, Any]) -> None:
    """Prefect and MLflow are on one cluster. The run goes on, and Prefect knows how it ended."""
    write_params(team.box.project, **LENIENT, schedule={"nightly_cron": "17 4 1 1 *"}, finetune__common__tokens=200)
    run = team.start_night()
    deadline = time.monotonic() + 200
    while not any(task["name"].startswith("finetune") for task in _tasks(team, run)):
        assert time.monotonic() < deadline, team.box.log("runner")[-3000:]
        time.sleep(0.2)
    team.services.cluster.stop()
    team.services.cluster.start()
    ended = team.ended(run)
    assert ended["state_type"] == "COMPLETED", (ended["state"], team.box.log("runner")[-3000:])
    assert json.loads(team.box.run("status", "--json").stdout.splitlines()[-1])["champion"] == "1"


def _tasks(team: Team, run: str) -> list[dict[str, Any]]:
    return list(team.ask("POST", "task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}))


def test_no_secret_is_kept_anywhere(team: Team, night: dict[str, Any]) -> None:
    """Logs, records, artifacts, both databases as text, the bucket, and a backup."""
    saved = team.box.run("backup", str(team.folder / "backup.tar.gz"))
    assert saved.returncode == 0, saved.stderr
    shown = [team.box.run(*command) for command in (("history",), ("lineage", "champion"), ("gc", "--dry-run"))]
    texts = [(f"output {i}", (done.stdout + done.stderr).encode()) for i, done in enumerate([saved, *shown])]
    texts += list(secrets.of_folder(team.folder))
    texts += [(f"database {name}", team.services.cluster.text(name).encode()) for name in ("night_prefect", "night_mlflow")]
    texts += [(f"object {name}", content) for name, content in team.services.store.objects("night").items()]
    texts += [("PostgreSQL's log", (team.services.cluster.folder / "log").read_bytes())]
    places = [place for place, _ in texts]
    for part in (LOG, "mlflow-server.log", "runner.log", "addresses.json", "supervisor.log", "database night_prefect", "evidence/"):
        assert any(part in place for place in places), f"{part} was not looked at"
    assert b"distill-student" in dict(texts)["database night_prefect"] and b"redistill/tiny" in dict(texts)["database night_mlflow"]
    assert secrets.places_with(texts, SECRETS) == []


def test_a_secret_would_be_found(tmp_path: Path) -> None:
    """In each of the ways in which it can be written, at each place of base64's groups of three bytes."""
    import base64

    secret = SECRETS["MLflow's password"]
    for i, text in enumerate(
        (
            f"password={secret}!",
            f"http://u:{quote(secret, safe='')}@host",
            *(base64.b64encode(f"{'u' * n}:{secret}".encode()).decode() for n in range(1, 4)),
        )
    ):
        (tmp_path / "file").write_text(text, encoding="utf-8")
        assert secrets.places_with(secrets.of_folder(tmp_path), {"it": secret}) == [f"it in {tmp_path / 'file'}"], i
