"""What happens to a team's services in the middle of a night: nothing is half-registered, one line says what to do, and the next night completes it."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cycles import Command, FirstCycle, Ran, asking, user_environment
from tests.e2e.test_promotion import LENIENT
from tests.forks import ForkServer
from tests.recording_proxy import Asked, recording_proxy
from tests.team.backing import TeamServices
from tests.team.gate import gate
from tests.team.mlflow_server import ADMIN, ADMIN_PASSWORD, team_mlflow
from tests.team.object_store import ObjectStore, object_store
from tests.tiny_project import write_params

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@dataclass
class Night:
    """A project on an MLflow server of its own. ``name`` is that of its database and its bucket, ``asked`` what the server was asked so far."""

    name: str
    project: Path
    url: str
    asked: list[Asked]
    env: dict[str, str]
    redistill: Command
    fork_server: ForkServer
    prefect: dict[str, str]
    output: list[str] = field(default_factory=list)

    def ask(self, *arguments: str, code: int = 0) -> Ran:
        return asking(self.redistill, self.project, **self.env)(*arguments, code=code)

    def run_until(self, seen: Callable[[Asked], bool], then: Callable[[], object]) -> tuple[int, str]:
        """A cycle in the background; ``then`` happens as soon as the server was asked something. Returns the exit code and the output."""
        self.asked.clear()
        environment = {**user_environment(), **self.prefect, **self.env}
        with self.fork_server.start(
            "redistill", "-C", str(self.project), "run", env=environment, server=self.fork_server.commands
        ) as running:
            reader = threading.Thread(target=lambda: self.output.append(running.stdout.read()))
            reader.start()
            deadline = time.monotonic() + 300
            while not any(seen(each) for each in list(self.asked)) and running.poll() is None:
                assert time.monotonic() < deadline, "the cycle did not come so far"
                time.sleep(0.01)
            assert any(seen(each) for each in self.asked), self._text()
            then()
            code = running.wait(400)
            reader.join(60)
        return code, self._text()

    def _text(self) -> str:
        return "".join(self.output)[-6000:]

    def nothing_is_half_registered(self) -> None:
        """No version without files, no alias, and the teacher goes on answering."""
        import mlflow

        client = mlflow.MlflowClient(self.url)
        assert client.search_model_versions("name = 'tiny'") == []
        status = self.ask("status", "--json").result
        assert [status[k] for k in ("champion", "challenger", "previous", "reference", "route")] == [None] * 4 + ["teacher"]

    def completes(self) -> None:
        """The next night ends as if nothing had happened."""
        done = self.ask("run", "--json")
        assert (done.result["verdict"], done.result["model_version"], done.result["route"]) == ("promote", "1", "student"), done.result
        assert self.ask("lineage", "champion", "--json").result["broken"] == 0
        assert [e["kind"] for e in self.ask("history", "--json").result["events"]] == ["promote"]


@pytest.fixture
def opened(
    first_cycle: FirstCycle,
    team_services: TeamServices,
    tmp_path: Path,
    redistill: Command,
    fork_server: ForkServer,
    prefect_api: str,
    prefect_home: Path,
) -> Callable[..., Any]:
    """Opens a night. ``direct``: the project itself reads and writes the bucket, at ``s3_url``; otherwise the server does."""

    @contextmanager
    def make(
        *,
        bucket: bool = True,
        database_port: int | None = None,
        s3_url: str | None = None,
        store: ObjectStore | None = None,
        **options: Any,
    ) -> Iterator[Night]:
        name = f"fault-{uuid.uuid4().hex[:8]}"
        cluster, store = team_services.cluster, store or team_services.store
        cluster.create(name)
        if bucket:
            store.create(name)
        project = Path(shutil.copytree(first_cycle.template, tmp_path / "project", symlinks=True))
        write_params(project, **LENIENT)
        address = cluster.address(name, port=database_port)
        with (
            team_mlflow(tmp_path, address, store, bucket=name, s3_url=s3_url, **options) as server,
            recording_proxy(server) as (url, asked),
        ):
            env = {"MLFLOW_TRACKING_URI": url, **store.environment(url=s3_url)}
            prefect = {"PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": prefect_api}
            yield Night(name, project, url, asked, env, redistill, fork_server, prefect)

    return make


def one_line(code: int, output: str, *words: str, expected: int = 6) -> None:
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (expected, 1), output
    assert "Traceback" not in output, output
    assert all(word in lines[0] for word in words), lines[0]


def uploads(each: Asked) -> bool:
    """The student is on its way: its record is made, and its files come next."""
    return each.method == "POST" and each.path.endswith("/mlflow/logged-models")


def test_the_database_is_restarted_in_mid_cycle(opened: Callable[..., Any], team_services: TeamServices) -> None:
    def restart() -> None:
        team_services.cluster.stop()
        team_services.cluster.start()

    with opened() as night:
        code, output = night.run_until(uploads, restart)
        assert code == 0 and "Traceback" not in output, output
        night.completes()


def test_the_database_is_away_for_longer(opened: Callable[..., Any], team_services: TeamServices) -> None:
    with gate(team_services.cluster.port) as way, opened(database_port=way.port) as night:
        code, output = night.run_until(uploads, way.refuse)
        one_line(code, output, "MLflow", "cannot be reached")
        way.admit()
        night.nothing_is_half_registered()
        night.completes()


@pytest.mark.parametrize("direct", [True, False], ids=["from the project", "from the server"])
def test_the_object_store_refuses_in_mid_upload(opened: Callable[..., Any], team_services: TeamServices, direct: bool) -> None:
    """It refuses until the cycle has given up, which is a matter of half a minute, and longer than that for the upload that was under way."""
    with gate(int(team_services.store.url.rpartition(":")[2])) as way, opened(direct=direct, s3_url=way.url) as night:
        refused = way.refuse_after(60_000)
        code, output = night.run_until(uploads, lambda: refused.wait(120))
        assert refused.is_set(), "the upload did not come so far"
        one_line(code, output, "cannot be reached")
        way.admit()
        night.nothing_is_half_registered()
        night.completes()


def test_a_champion_keeps_its_traffic_while_its_files_are_out_of_reach(opened: Callable[..., Any], team_services: TeamServices) -> None:
    """Nothing speaks against it. Only files that are missing or were changed do."""
    with gate(int(team_services.store.url.rpartition(":")[2])) as way, opened(direct=True, s3_url=way.url) as night:
        night.completes()
        way.refuse()
        refused = night.ask("run", code=6)
        one_line(6, refused.stderr, "cannot be reached")
        assert night.ask("route", "get", "--json").result["answers"] == "student"
        assert night.ask("status", "--json").result["champion"] == "1"
        way.admit()
        assert night.ask("run", "--json").result["route"] == "student"
        assert [e["kind"] for e in night.ask("history", "--json").result["events"]] == ["promote"]


@pytest.mark.parametrize("direct", [True, False], ids=["from the project", "from the server"])
def test_a_bucket_that_does_not_exist(opened: Callable[..., Any], team_services: TeamServices, direct: bool) -> None:
    with opened(bucket=False, direct=direct) as night:
        # Of a server's own bucket the client learns no more than that the server failed.
        one_line(6, night.ask("run", code=6).stderr, "the bucket does not exist" if direct else "its database or its bucket")
        night.nothing_is_half_registered()
        team_services.store.create(night.name)
        night.completes()


@contextmanager
def account(password: str) -> Iterator[None]:
    """MLflow's client in this process has this password."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        yield


def test_the_password_of_mlflow_is_replaced_in_mid_night(opened: Callable[..., Any]) -> None:
    from mlflow.server import get_app_client

    another = "another-password-of-the-team"
    with opened(password=ADMIN_PASSWORD) as night:
        night.env |= {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": ADMIN_PASSWORD}

        def replace() -> None:
            with account(ADMIN_PASSWORD):
                get_app_client("basic-auth", night.url).update_user_password(ADMIN, another, current_password=ADMIN_PASSWORD)

        code, output = night.run_until(uploads, replace)
        one_line(code, output, "MLFLOW_TRACKING_PASSWORD")
        assert ADMIN_PASSWORD not in output and another not in output
        night.env["MLFLOW_TRACKING_PASSWORD"] = another
        with account(another):
            night.nothing_is_half_registered()
        night.completes()


def test_the_key_of_the_object_store_is_replaced_in_mid_night(opened: Callable[..., Any], tmp_path: Path) -> None:
    with object_store(tmp_path) as store, opened(direct=True, store=store) as night:
        key = store.demand_keys()
        night.env |= store.environment(*key)
        keys = list[tuple[str, str]]()
        code, output = night.run_until(uploads, lambda: keys.append(store.replace_key(key)))
        one_line(code, output, "refused its key", "AWS_ACCESS_KEY_ID")
        assert key[1] not in output
        night.env |= store.environment(*keys[0])
        night.nothing_is_half_registered()
        night.completes()
