"""What a team shares: an MLflow server, and a DVC remote from which a colleague's checkout continues without a teacher call.

With files for both, and with an MLflow server on PostgreSQL and S3 that fetches and stores the files for its clients, and a DVC remote on S3.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from redistill.runtime.environment import child_environment
from tests.aged import MS, age_mlflow
from tests.cycles import Command, FirstCycle
from tests.e2e.test_promotion import LENIENT
from tests.forks import ForkServer
from tests.recording_proxy import Asked, recording_proxy
from tests.servers import mlflow_server
from tests.team.backing import Backing
from tests.team.mlflow_server import team_mlflow
from tests.tiny_project import write_params

pytestmark = pytest.mark.cycles

ON_BOTH_BACKINGS = True
IN_GIT = (
    "src",
    "tasks",
    "flows",
    "teacher",
    ".dvc/config",
    ".dvcignore",
    "dvc.yaml",
    "dvc.lock",
    "params.yaml",
    "teacher.lock.json",
    "sources.lock.json",
)


@dataclass(frozen=True)
class Shared:
    """``asked`` is what the MLflow server at ``url`` was asked; ``env`` what a command needs for both stores."""

    url: str
    asked: list[Asked]
    env: dict[str, str]
    remote: str
    age: Callable[[float], None]
    stored: Callable[[str], list[str]]
    """The names of the server's files that end so."""


@pytest.fixture
def shared(tmp_path: Path, empty_registry: Path, backing: Backing) -> Iterator[Shared]:
    with mlflow_of(tmp_path, empty_registry, backing) as server, recording_proxy(server) as (url, asked):
        if backing.services is None:

            def in_folder(end: str) -> list[str]:
                return [file.name for file in (tmp_path / "mlartifacts").rglob(f"*{end}")]

            database = tmp_path / "mlflow.db"
            yield Shared(url, asked, {"MLFLOW_TRACKING_URI": url}, str(tmp_path / "remote"), partial(age_mlflow, database), in_folder)
            return
        services = backing.services

        def in_bucket(end: str) -> list[str]:
            return [name for name in services.store.objects("shared") if name.endswith(end)]

        def age(days: float) -> None:
            for statement in MS:
                services.cluster.rows("shared", statement.format(days * 86_400_000))

        # DVC has the key of its remote from the environment, so none is in a file. MLflow's client needs none.
        env = {"MLFLOW_TRACKING_URI": url, **{k: v for k, v in services.store.environment().items() if k.startswith("AWS_")}}
        yield Shared(url, asked, env, "s3://dvc/tiny", age, in_bucket)


@contextmanager
def mlflow_of(folder: Path, empty_registry: Path, backing: Backing) -> Iterator[str]:
    if backing.services is None:
        with mlflow_server(folder, empty_registry) as url:
            yield url
        return
    services = backing.services
    services.cluster.create("shared")
    for bucket in ("shared", "dvc"):
        services.store.create(bucket)
    with team_mlflow(folder, services.cluster.address("shared"), services.store, bucket="shared") as url:
        yield url


@pytest.fixture
def dvc(fork_server: ForkServer, shared: Shared) -> Callable[..., str]:
    def run(project: Path, *arguments: str) -> str:
        done = fork_server.run("dvc", *arguments, cwd=project, env={**child_environment(), **shared.env})
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_colleague_continues(
    first_cycle: FirstCycle,
    tmp_path: Path,
    shared: Shared,
    redistill: Command,
    dvc: Callable[..., str],
) -> None:
    """Also a night without news, as the registry sees it: the champion's weights are fetched once, and the history is read once."""
    url, asked, env = shared.url, shared.asked, shared.env
    project = tmp_path / "mine"
    shutil.copytree(first_cycle.template, project, symlinks=True)
    write_params(project, **LENIENT)
    mine = redistill(project, "run", "--json", env=env)
    assert mine.code == 0, mine.stderr[-3000:]
    assert mine.result["verdict"] == "promote", mine.result["reasons"]
    dvc(project, "remote", "add", "--default", "shared", shared.remote)
    assert dvc(project, "stage", "list", "--all").count("prepare") == 1, (
        "bundles in .redistill hold a dvc.yaml each, which is no pipeline of this project"
    )
    dvc(project, "push")

    theirs = tmp_path / "colleague"
    theirs.mkdir()
    for name in (*IN_GIT, *(p.name for pattern in ("*.jsonl", "*.md") for p in project.glob(pattern))):
        source, target = project / name, theirs / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    dvc(theirs, "pull")
    # The third thing that a team shares: without the key the champion's bundle cannot be verified, and traffic goes to the teacher, as it should.
    key = project / ".redistill" / "keys" / "signing.pem"
    again = redistill(theirs, "run", "--json", env={**env, "REDISTILL_SIGNING_KEY": str(key)})
    assert again.code == 0, again.stderr[-3000:]
    assert set(again.result["stages"].values()) == {"unchanged"}
    assert again.result["model_version"] == mine.result["model_version"], "the same weights keep their version on the server"
    assert again.result["verdict"] == mine.result["verdict"]
    asked.clear()
    quiet = redistill(theirs, "run", "--json", env={**env, "REDISTILL_SIGNING_KEY": str(key)})
    assert (quiet.code, quiet.result["route"]) == (0, "student"), quiet.stderr[-3000:]
    fetched = [a.path for a in asked if a.method == "GET" and a.path.endswith(".safetensors")]
    searches = [json.loads(a.body) for a in asked if a.path.endswith("/runs/search")]
    history = httpx.get(f"{url}/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "redistill/tiny/history"}).json()
    whole = [s for s in searches if s["experiment_ids"] == [history["experiment"]["experiment_id"]] and not s.get("filter")]
    assert (len(fetched), len(whole)) == (1, 1)
    assert shared.stored(".safetensors"), "the server keeps the weights"
    assert not (theirs / ".redistill" / "mlflow" / "mlflow.db").exists()
    assert not (theirs / ".redistill" / "store").exists(), "nobody asked the teacher"
    assert not (project / ".dvc/config.local").exists() and "key" not in (project / ".dvc/config").read_text(encoding="utf-8")
    _gc_and_backup_beside_a_server(redistill, project, tmp_path, shared)


def _gc_and_backup_beside_a_server(redistill: Command, project: Path, tmp_path: Path, shared: Shared) -> None:
    """gc removes files through the server; a backup holds only what is the project's own, and says so."""
    import mlflow

    client = mlflow.MlflowClient(shared.url)
    dead = client.create_run(client.get_experiment_by_name("redistill/tiny").experiment_id, run_name="a cycle that died").info.run_id
    (tmp_path / "big").write_bytes(bytes(100_000))
    client.log_artifact(dead, str(tmp_path / "big"))
    shared.age(60)
    env = shared.env
    planned, done, again = (redistill(project, "gc", "--json", *more, env=env) for more in (["--dry-run"], [], []))
    assert planned.result["removed"] == done.result["removed"] != [] and again.result["removed"] == [], done.stderr[-3000:]
    assert {r["kind"]: r for r in done.result["removed"]}["runs"]["bytes"] >= 100_000
    assert client.get_run(dead).info.lifecycle_stage == "deleted" and not shared.stored("big")
    assert redistill(project, "lineage", "champion", "--json", env=env).result["broken"] == 0

    archive = tmp_path / "archive.tar.gz"
    saved = redistill(project, "backup", str(archive), "--json", env=env)
    assert saved.code == 0 and "back up the server with its own tools" in " ".join(saved.result["notes"]), saved.stderr[-3000:]
    (tmp_path / "restored").mkdir()
    restored = redistill(tmp_path / "restored", "restore", str(archive), "--json", env=env)
    assert restored.code == 0 and "set MLFLOW_TRACKING_URI to it" in " ".join(restored.result["notes"]), restored.stderr[-3000:]
    assert not (tmp_path / "restored/.redistill/mlflow").exists()
    assert redistill(tmp_path / "restored", "status", "--json", env=env).result["champion"] == "1"
