"""A server that hangs and a disk that takes no more: one line and the right exit code, in a bounded time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from redistill.errors import RegistryError
from redistill.params import parse_params
from tasks.registry import runs_and_versions
from tests.tiny_project import params, reviewed
from tests.unit.test_params import MINIMAL

SMALL_FILES = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "


def test_an_mlflow_that_accepts_and_never_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_and_versions, "_SILENT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
        with pytest.raises(RegistryError, match=f"MLflow at 127.0.0.1:{port} has not answered for 0.5 s; start it again") as caught:
            runs_and_versions.connect(parse_params(MINIMAL))
    assert caught.value.exit_code == 6 and "secret" not in str(caught.value)


def test_a_stage_on_a_full_disk_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    """``prepare`` with 2,000 rows where no file may grow beyond 4 KB; a write beyond the limit fails like one on a full disk."""
    rows = ({"text": f"message {n} about {n * n} things and {n % 7} others", "label": "fee"} for n in range(2000))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    root = str(Path(__file__).parents[2])
    shutil.copy(Path(root, "dvc.yaml"), tmp_path)
    lock = "from tasks.locking.code_lock import lock_code; lock_code(); "
    code = lock + SMALL_FILES + "from tasks.running import stage_command; stage_command.main('prepare', [])"
    terms = tmp_path / "terms.md"
    terms.write_text("Anything may be done with it.\n", encoding="utf-8")
    tree = {
        **params(hashlib.sha256(terms.read_bytes()).hexdigest()),
        "data": {"name": "full", "source": "rows.jsonl", "task": "classification", "record": {"labels": ["fee"]}},
        "intake": {"near_duplicate": 1.0, "languages": []},
    }
    reviewed(tree)
    (tmp_path / "params.yaml").write_text(json.dumps(tree))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 3 and len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
    assert "could not write artifacts/prompts/" in errors[0] and "free some space" in errors[0]
    assert not list(tmp_path.rglob("*.tmp"))
