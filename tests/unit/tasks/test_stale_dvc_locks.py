"""Entries of killed DVC processes are removed, also where their number belongs to another process now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.running.stale_dvc_locks import RWLOCK, remove_stale_locks


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RWLOCK.parent.mkdir(parents=True)


def entry(pid: int) -> dict[str, object]:
    return {"pid": pid, "cmd": "dvc repro"}


def test_only_what_works_here_keeps_its_lock(tmp_path: Path) -> None:
    sleep = "import time; time.sleep(60)"
    with (
        subprocess.Popen([sys.executable, "-c", sleep, "dvc", "repro"]) as here,
        subprocess.Popen([sys.executable, "-c", sleep, "dvc", "repro"], cwd="/") as elsewhere,
        subprocess.Popen(["sleep", "60"]) as other,
        subprocess.Popen(["true"]) as gone,
    ):
        gone.wait()
        table = {
            "write": {"/a": entry(here.pid), "/b": entry(elsewhere.pid), "/c": entry(gone.pid)},
            "read": {"/d": [entry(here.pid), entry(other.pid)], "/e": [entry(gone.pid)]},
        }
        RWLOCK.write_text(json.dumps(table), encoding="utf-8")
        assert set(remove_stale_locks()) == {elsewhere.pid, other.pid, gone.pid}
        assert json.loads(RWLOCK.read_text(encoding="utf-8")) == {"write": {"/a": entry(here.pid)}, "read": {"/d": [entry(here.pid)]}}
        assert remove_stale_locks() == []
        for process in (here, elsewhere, other):
            process.terminate()


def test_dvc_works_again_where_the_number_of_a_killed_process_is_in_use(tmp_path: Path) -> None:
    """As after a reboot. Without the removal, DVC waits for this process, which holds nothing."""
    dvc = [sys.executable, "-m", "dvc"]
    quiet = {**os.environ, "DVC_NO_ANALYTICS": "1", "CI": "1"}
    subprocess.run([*dvc, "init", "-q", "-f", "--no-scm"], check=True, env=quiet)
    RWLOCK.parent.mkdir(parents=True, exist_ok=True)
    Path("dvc.yaml").write_text("stages:\n  one:\n    cmd: echo 1 > out\n    outs: [out]\n", encoding="utf-8")
    RWLOCK.write_text(json.dumps({"write": {str(tmp_path / "out"): entry(1)}, "read": {}}), encoding="utf-8")
    blocked = subprocess.run([*dvc, "repro"], capture_output=True, text=True, env=quiet, check=False)
    assert blocked.returncode != 0 and "is busy, it is being blocked by" in blocked.stderr
    assert remove_stale_locks() == [1]
    subprocess.run([*dvc, "repro", "-q"], check=True, env=quiet)


@pytest.mark.parametrize("text", ["", "{", '{"write": 3}', '{"write": {"/a": {"pid": "x"}}}'])
def test_a_table_that_dvc_could_not_read_is_removed(text: str) -> None:
    RWLOCK.write_text(text, encoding="utf-8")
    assert remove_stale_locks() == [] and not RWLOCK.exists()


def test_no_table_is_no_problem() -> None:
    assert remove_stale_locks() == []
