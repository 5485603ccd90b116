"""What a team shares: an MLflow server, and a DVC remote from which a colleague's checkout continues without a teacher call."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redistill.environment import child_environment
from tests.cycles import Command, FirstCycle
from tests.servers import free_port, stop, until

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


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--artifacts-destination", str(tmp_path / "mlartifacts")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store],
        env=child_environment(),
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        until(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def dvc(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=project, env=child_environment(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_colleague_continues(first_cycle: FirstCycle, tmp_path: Path, mlflow_server: str, redistill: Command) -> None:
    env = {"MLFLOW_TRACKING_URI": mlflow_server}
    project = tmp_path / "mine"
    shutil.copytree(first_cycle.template, project, symlinks=True)
    mine = redistill(project, "run", "--json", env=env)
    assert mine.code == 0, mine.stderr[-3000:]
    dvc(project, "remote", "add", "--default", "shared", str(tmp_path / "remote"))
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
    # The third thing that a team shares: without the key a promotion stops, as it should, and whether there is one is the tiny student's affair.
    key = project / ".redistill" / "keys" / "signing.pem"
    again = redistill(theirs, "run", "--json", env={**env, "REDISTILL_SIGNING_KEY": str(key)})
    assert again.code == 0, again.stderr[-3000:]
    assert set(again.result["stages"].values()) == {"unchanged"}
    assert again.result["model_version"] == mine.result["model_version"], "the same weights keep their version on the server"
    assert again.result["verdict"] == mine.result["verdict"]
    weights = list((tmp_path / "mlartifacts").rglob("*.safetensors"))
    assert weights, "the server keeps the weights"
    assert not (theirs / ".redistill" / "mlflow" / "mlflow.db").exists()
    assert not (theirs / ".redistill" / "store").exists(), "nobody asked the teacher"
