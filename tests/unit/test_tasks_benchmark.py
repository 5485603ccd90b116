"""What a benchmark remembers is forgotten when anything that made it changes, the measuring code included."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from redistill.config import BenchmarkParams, DataParams, SourceParams
from tasks import benchmark
from tests.contract.code_deps import ROOT

DATA = DataParams(name="tiny", source=(SourceParams(path="rows.jsonl", splits={"pool": 1.0}),), task="generation")


def test_memory_is_bound_to_model_rows_and_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    benchmark.HELDOUT.parent.mkdir(parents=True)
    benchmark.HELDOUT.write_bytes(b"rows")
    params = BenchmarkParams()
    places = [benchmark.memo_directory("model", DATA, params)]
    assert benchmark.memo_directory("model", DATA, params) == places[0]
    places.append(benchmark.memo_directory("another", DATA, params))
    places.append(benchmark.memo_directory("model", dataclasses.replace(DATA, prompt_template="{text}"), params))
    places.append(benchmark.memo_directory("model", DATA, dataclasses.replace(params, max_tokens=params.max_tokens + 1)))
    benchmark.HELDOUT.write_bytes(b"other rows")
    places.append(benchmark.memo_directory("model", DATA, params))
    assert len(set(places)) == len(places)


def places(project: Path) -> dict[str, str]:
    """Where a process that runs the project's own code would look for results and for unfinished work."""
    code = """
import json
from redistill.config import BenchmarkParams, DataParams, SourceParams
from tasks import benchmark, edge
data = DataParams(name="tiny", source=(SourceParams(path="rows.jsonl", splits={"pool": 1.0}),), task="generation")
print(json.dumps({
    "benchmark": str(benchmark.memo_directory("model", data, BenchmarkParams())),
    "finetune": str(edge.work_directory("finetune-kd", "rows")),
    "code": benchmark.__file__,
}))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project), str(project / "src")])}
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    assert Path(found.pop("code")) == project / "tasks/benchmark.py"
    return found


def test_edited_code_finds_neither_old_results_nor_old_checkpoints(tmp_path: Path) -> None:
    """In a project of its own, whose stages run the code that lies there."""
    for name in ("src", "tasks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (tmp_path / "artifacts/prompts").mkdir(parents=True)
    (tmp_path / "artifacts/prompts/heldout.parquet").write_bytes(b"rows")
    before = places(tmp_path)
    for file, stale in (
        ("tasks/benchmark.py", {"benchmark"}),
        ("src/redistill/training.py", {"finetune"}),
        ("tasks/edge.py", {"benchmark", "finetune"}),
    ):
        with open(tmp_path / file, "a", encoding="utf-8") as handle:
            handle.write("CHANGED = True\n")
        after = places(tmp_path)
        assert {name for name in before if before[name] != after[name]} == stale, file
        before = after
