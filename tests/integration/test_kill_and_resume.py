"""kill -9 in the middle of generate, score and finetune, then run again: nothing is lost, nothing is asked twice.

And what is refused before the first step, in one process or several.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from redistill.distillation.training.loop import newest_checkpoint
from redistill.evaluation.timing import architecture
from redistill.io.digests import tree_digest
from redistill.runtime.environment import child_environment
from redistill.runtime.progress import CONTINUES
from tests.cycles import FirstCycle
from tests.forks import Done, ForkServer, Running
from tests.tiny_project import write_params

SLOW = {"finetune__common__tokens": 60_000, "finetune__common__save_every_steps": 5}


@pytest.fixture(scope="module")
def project(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project with a tuned and locked teacher that nothing has been asked yet."""
    path = Path(shutil.copytree(first_cycle.template, tmp_path_factory.mktemp("kill") / "project", symlinks=True))
    for made in ("artifacts/completions", "artifacts/validated", "artifacts/soft_targets", "artifacts/students", ".redistill/store"):
        shutil.rmtree(path / made)
    write_params(path, **SLOW)
    return path


@pytest.fixture
def stage(project: Path, fork_server: ForkServer) -> Callable[..., Done]:
    """Run a stage to its end."""

    def run(name: str, *arguments: str) -> Done:
        return fork_server.run("tasks.running.stage_command", name, *arguments, cwd=project, env=environment(project))

    return run


@pytest.fixture
def scored(project: Path, stage: Callable[..., Done]) -> None:
    """What a training needs, also where this test runs without those before it."""
    made = {"generate": "completions/completions.parquet", "validate": "validated/kept.parquet", "score": "soft_targets/summary.json"}
    for name, file in made.items():
        if not (project / "artifacts" / file).exists():
            done = stage(name)
            assert done.returncode == 0, done.stderr


def environment(path: Path) -> dict[str, str]:
    return {**child_environment(), "PYTHONPATH": str(path)}


@pytest.fixture
def begin(project: Path, fork_server: ForkServer) -> Iterator[Callable[..., Running]]:
    """Start a stage that is to be killed."""
    begun: list[Running] = []

    def start(name: str, *arguments: str) -> Running:
        begun.append(fork_server.start("tasks.running.stage_command", name, *arguments, cwd=project, env=environment(project)))
        return begun[-1]

    yield start
    for process in begun:
        process.close()


def continued(said: str) -> list[str]:
    """Lines by which a stage says that an earlier run had done a part of it."""
    return [line for line in said.splitlines() if CONTINUES.match(line)]


def kill_when(process: Running, ready: Callable[[], bool], timeout_s: float = 240.0) -> None:
    """Poll until something is there, then kill -9; a process that ends by itself was too fast to test anything."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert process.poll() is None, f"ended before it could be killed: {process.stdout.read()}"
        assert time.monotonic() < deadline, "never got to the point of being killed"
        time.sleep(0.01)
    kill(process)


def kill(process: Running) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == 128 + signal.SIGKILL


def stored(path: Path) -> int:
    import sqlite3

    file = path / ".redistill/store/completions.sqlite"
    if not file.is_file():
        return 0
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_generate_asks_only_for_what_is_missing(project: Path, stage: Callable[..., Done], begin: Callable[..., Running]) -> None:
    kill_when(begin("generate"), lambda: stored(project) > 0)
    had = stored(project)
    assert had > 0
    assert not (project / "artifacts/completions").exists(), "nothing half-written"
    again = stage("generate")
    assert again.returncode == 0, again.stderr
    line = next(x for x in (again.stdout + again.stderr).splitlines() if "from the store" in x)
    total, asked = int(line.split()[1]), int(line.split()[3])
    assert asked <= total - had
    assert continued(again.stdout + again.stderr), "its seconds are not those of the whole stage"
    third = stage("generate")
    assert f"{total} completions, 0 new" in third.stdout + third.stderr


def test_score_leaves_nothing_half_written(project: Path, stage: Callable[..., Done], begin: Callable[..., Running]) -> None:
    validated = stage("validate")
    assert validated.returncode == 0, validated.stderr
    process = begin("score")
    for line in process.stdout:
        if line.startswith("[score]"):
            break
    kill(process)
    assert not (project / "artifacts/soft_targets/targets").exists()
    scored = stage("score")
    assert scored.returncode == 0, scored.stderr
    assert json.loads((project / "artifacts/soft_targets/summary.json").read_text())["rows"] > 0


@pytest.mark.usefixtures("scored")
def test_finetune_resumes_to_the_same_weights(project: Path, stage: Callable[..., Done], begin: Callable[..., Running]) -> None:
    straight = stage("finetune", "kd")
    assert straight.returncode == 0, straight.stderr
    assert not continued(straight.stdout + straight.stderr)
    assert architecture(project / "artifacts/students/kd") == architecture(project / "artifacts/base"), "its times are those of its base"
    wanted = tree_digest(project / "artifacts/students/kd")
    (project / "artifacts/students/kd").rename(project / "straight")

    def checkpointed() -> bool:
        # A checkpoint that is half written is not continued, so the kill has to come after a whole one.
        return any(newest_checkpoint(work) for work in (project / ".redistill/work").glob("finetune-kd-*"))

    kill_when(begin("finetune", "kd"), checkpointed)
    assert not (project / "artifacts/students/kd").exists()
    again = stage("finetune", "kd")
    assert again.returncode == 0, again.stderr
    assert continued(again.stdout + again.stderr)
    assert tree_digest(project / "artifacts/students/kd") == wanted
    assert not list((project / ".redistill/work").glob("finetune-kd-*")), "the work directory goes when the stage is done"


@pytest.fixture
def changed(project: Path) -> Iterator[Callable[[str, Callable[[str], str]], None]]:
    """Change a file of the project; afterwards it is as it was."""
    before: dict[Path, str] = {}

    def change(name: str, how: Callable[[str], str]) -> None:
        before.setdefault(project / name, (project / name).read_text(encoding="utf-8"))
        (project / name).write_text(how((project / name).read_text(encoding="utf-8")), encoding="utf-8")

    yield change
    for file, text in before.items():
        file.write_text(text, encoding="utf-8")


def with_params(**common: object) -> Callable[[str], str]:
    def how(text: str) -> str:
        tree = yaml.safe_load(text)
        tree["finetune"] |= {"method": common.pop("method", tree["finetune"]["method"])}
        tree["finetune"]["common"] |= common
        return yaml.safe_dump(tree, sort_keys=False)

    return how


def two_ids_swapped(text: str) -> str:
    tree = json.loads(text)
    vocabulary = tree["model"]["vocab"]
    a, b = list(vocabulary)[-2:]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("method", "processes", "said"),
    [
        ("logit", 1, "tokenizer"),
        ("online", 1, "the student's tokenizer is not the teacher's, so the same ids mean other tokens and method online cannot"),
        (
            "on_policy",
            2,
            "the student's tokenizer is not the teacher's, so the same ids mean other tokens and method on_policy cannot",
        ),
    ],
)
@pytest.mark.usefixtures("scored")
def test_tokenizers_that_differ_are_one_error_before_training(
    stage: Callable[..., Done], changed: Any, method: str, processes: int, said: str
) -> None:
    changed("artifacts/base/tokenizer.json", two_ids_swapped)
    changed("params.yaml", with_params(method=method, processes=processes))
    done = stage("finetune", "kd")
    lines = (done.stdout + done.stderr).splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert done.returncode == 3 and len(errors) == 1 and said in errors[0], lines[-20:]
    assert not any("steps" in line for line in lines if line.startswith("[finetune@kd]")), "no step was made"
