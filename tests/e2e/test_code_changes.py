"""What runs again after an edit: nothing for words and gates, and only what has other code for code; by hand with DVC, and in a cycle."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cycles import Command, FirstCycle, user_environment
from tests.forks import ForkServer

pytestmark = pytest.mark.cycles

ARMS = {f"finetune@{arm}" for arm in ("gold", "sft", "kd")}
BENCHMARKS = {f"{stage}@{arm}" for stage in ("calibrate", "benchmark", "heldout") for arm in ("gold", "sft", "kd")}
LOSS = "src/redistill/distillation/losses/divergences.py"
TRAINING = "tasks/training/arm.py"


@pytest.fixture(scope="module")
def project(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(first_cycle.template, tmp_path_factory.mktemp("edits") / "project", symlinks=True))
    (path / ".venv").symlink_to(sys.prefix)
    return path


@pytest.fixture(scope="module")
def repro(project: Path, fork_server: ForkServer) -> Callable[[], set[str]]:
    """``dvc repro`` as a person types it, in an environment that was not activated: the stages that ran. All are forks, which saves their imports."""

    def run() -> set[str]:
        environment = {**user_environment(), "PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(project / "src"), "CI": "1"}
        done = fork_server.run("dvc", "repro", cwd=project, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return set(re.findall(r"Running stage '([^']+)'", done.stdout))

    return run


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_words_and_gates_run_nothing_again(project: Path, repro: Callable[[], set[str]]) -> None:
    assert repro() == {"lock_code"}, "nothing was edited"
    edit(project / LOSS, '"""', '"""Reworded. ')
    edit(project / TRAINING, "\n\ndef train_arm", "\n\n# A comment.\ndef train_arm")
    edit(project / "params.yaml", "- teacher\n", "- {name: teacher, margin: 0.07}\n")
    edit(project / "src/redistill/promotion/gates/cost.py", "\n\ndef ", "\n\nEDITED = True\n\n\ndef ")
    edit(project / "src/redistill/version.py", "0.1.0", "0.2.0")
    assert repro() == {"lock_code"}


def test_an_edited_loss_trains_again_and_what_follows_only_where_weights_changed(project: Path, repro: Callable[[], set[str]]) -> None:
    edit(project / LOSS, "_CHUNK_ELEMENTS = 12 << 20", "_CHUNK_ELEMENTS = 11 << 20")
    assert repro() == {"lock_code", *ARMS}, "the same weights came out, so nothing after them ran"
    edit(project / TRAINING, "learning_rate=common.learning_rate", "learning_rate=0.9 * common.learning_rate")
    assert repro() == {"lock_code", *ARMS, *BENCHMARKS}


def test_locking_by_hand_waits_for_a_cycle(project: Path, fork_server: ForkServer) -> None:
    """A lock written while a stage runs would record its result under code that it did not run."""
    before = (project / "code.lock.json").read_bytes()
    edit(project / TRAINING, "0.9 * common.learning_rate", "0.85 * common.learning_rate")
    environment = {**user_environment(), "PYTHONPATH": str(project / "src")}
    with open(project / ".redistill/cycle.lock", "a+", encoding="utf-8") as cycle:
        fcntl.flock(cycle, fcntl.LOCK_EX)
        with fork_server.start("redistill", "-C", str(project), "lock", env=environment) as locking:
            assert any("is running in this project; waiting for it to end" in line for line in locking.stdout)
            assert (project / "code.lock.json").read_bytes() == before
            fcntl.flock(cycle, fcntl.LOCK_UN)
            assert locking.wait(timeout=120) == 0
    assert (project / "code.lock.json").read_bytes() != before


def test_a_cycle_sees_edits_and_other_packages_and_says_why(project: Path, redistill: Command) -> None:
    edit(project / TRAINING, "0.85 * common.learning_rate", "0.8 * common.learning_rate")
    lock = (project / "dvc.lock").read_text(encoding="utf-8")
    # As if validate had run with another version of a package.
    stage = lock[lock.index("\n  validate:") :]
    moved = re.sub(r"great-expectations: [\d.]+", "great-expectations: 0.18.0", stage, count=1)
    assert moved != stage
    (project / "dvc.lock").write_text(lock.replace(stage, moved), encoding="utf-8")
    done = redistill(project, "run", "--json", env={"PYTHONPATH": str(project / "src")})
    assert done.code == 0, done.stderr[-3000:]
    ran = {stage for stage, outcome in done.result["stages"].items() if outcome != "unchanged"}
    assert ran == {"validate", *ARMS, *BENCHMARKS}
    tree = json.loads((project / "artifacts/report/report.json").read_text(encoding="utf-8"))
    why = {s["stage"]: s["why"] for s in tree["stages"]}
    assert why["finetune@kd"] == ["code: tasks/training/arm.py"]
    assert re.fullmatch(r"great-expectations 0\.18\.0 → \d.*", why["validate"][0])
    assert why["benchmark@kd"] == ["finetune@kd ran"] and why["generate"] == []
    assert "because code: tasks/training/arm.py" in done.stderr + done.stdout
    assert "code: tasks/training/arm.py" in (project / "artifacts/report/index.html").read_text(encoding="utf-8")
