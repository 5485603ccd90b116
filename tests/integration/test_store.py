"""MLflow's database appears whole: a kill while it is made leaves nothing that stops the next process."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tasks.registry.store import make_store

ROOT = Path(__file__).resolve().parents[2]


def tables(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        return len(connection.execute("select name from sqlite_master where type = 'table'").fetchall())


def test_a_kill_while_it_is_made_leaves_nothing_in_its_place(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        f"from pathlib import Path; from tasks.registry.store import make_store; make_store(Path({str(tmp_path)!r}))",
    ]
    unfinished = tmp_path / "mlflow/unfinished/mlflow.db"
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (unfinished.is_file() and unfinished.stat().st_size > 8192):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
    database = tmp_path / "mlflow/mlflow.db"
    assert not database.exists() and unfinished.exists()
    make_store(tmp_path)
    assert tables(database) > 30 and not unfinished.exists()
    before = database.stat().st_mtime_ns
    make_store(tmp_path)
    assert database.stat().st_mtime_ns == before
