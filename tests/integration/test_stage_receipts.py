"""What a stage's receipt says of its seconds: real DVC, a stage that says what it found of an earlier run."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from redistill.errors import StageError
from tasks.running import dvc_stage
from tasks.running.fork_server import ForkServer

PIPELINE = """
stages:
  whole:
    cmd: python -c "open('whole', 'w').write('1'); print('[whole] 1/1 rows')"
    outs: [whole]
  resumed:
    cmd: python -c "from redistill.runtime.progress import continues; continues('resumed', 'from step 40'); open('resumed', 'w').write('1')"
    outs: [resumed]
"""

WAITING = """
stages:
  waiting:
    cmd: >-
      python -c "import os, time;
      print('[waiting] 0/1 rows', flush=True);
      [time.sleep(0.05) for _ in iter(lambda: os.path.exists('go'), True)];
      open('waiting', 'w').write('1'); print('[waiting] 1/1 rows', flush=True)"
    outs: [waiting]
"""


def test_a_stage_that_ends_while_another_holds_the_repository_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC releases its lock while a command runs. Without ``--wait-for-lock`` it waits three seconds to get it back, then fails, and the work is lost."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(WAITING, encoding="utf-8")
    dvc_stage.initialise()
    plan, said = dvc_stage.Plan(), list[str]()
    with ForkServer(()) as warm, ThreadPoolExecutor(1) as pool:
        running = pool.submit(dvc_stage.run_stage, "waiting", plan, warm, said.append, lambda *_: None)
        # As long as another stage's outputs are hashed and copied.
        with open(tmp_path / ".dvc/tmp/lock", "a+", encoding="utf-8") as held:
            wait_for(lambda: "[waiting] 0/1 rows" in said)
            fcntl.flock(held, fcntl.LOCK_EX)
            (tmp_path / "go").touch()
            wait_for(lambda: "[waiting] 1/1 rows" in said)
            begun = time.monotonic()
            wait_for(lambda: time.monotonic() - begun > 4.0 or running.done())
            assert not running.done()
        receipt = running.result(60)
    assert (receipt.outcome, set(receipt.outs)) == ("ran", {"waiting"})


def test_a_stage_that_runs_for_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(WAITING, encoding="utf-8")
    dvc_stage.initialise()
    begun = time.monotonic()
    with ForkServer(()) as warm, pytest.raises(StageError, match=r"longer than 0\.00166667 hours \(schedule\.stage_hours\)"):
        dvc_stage.run_stage("waiting", dvc_stage.Plan(), warm, lambda _: None, lambda *_: None, limit_s=6.0)
    assert time.monotonic() - begun < 30


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stage_that_continues_an_earlier_run_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    dvc_stage.initialise()
    plan, said = dvc_stage.Plan(), list[str]()
    with ForkServer(()) as warm:
        receipts = [dvc_stage.run_stage(stage, plan, warm, said.append, lambda *_: None) for stage in ("whole", "resumed")]
    assert [(r.stage, r.outcome, r.whole) for r in receipts] == [("whole", "ran", True), ("resumed", "ran", False)]
    assert "[resumed] continues: from step 40" in said
