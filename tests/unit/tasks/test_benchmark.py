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

from redistill.data.params import DataParams, SourceParams
from redistill.evaluation.params import BenchmarkParams
from tasks.locking.code_lock import lock_code
from tasks.results.rows import sealed_rows, shown_rows
from tests.tiny_project import ROOT

DATA = DataParams(name="tiny", source=(SourceParams(path="rows.jsonl", splits={"pool": 1.0}),), task="generation")
PARAMS = BenchmarkParams()


@pytest.fixture
def heldout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "artifacts" / "prompts" / "heldout.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"rows")
    lock_code()
    return file


def test_memory_is_bound_to_model_rows_template_and_measurement(heldout: Path) -> None:
    places = [shown_rows(DATA).memo("model", DATA, PARAMS)]
    assert shown_rows(DATA).memo("model", DATA, PARAMS) == places[0]
    assert sealed_rows().memo("model", DATA, PARAMS) != places[0], "sealed results are not found in the place of open ones"
    places.append(shown_rows(DATA).memo("another", DATA, PARAMS))
    places.append(shown_rows(DATA).memo("model", dataclasses.replace(DATA, prompt_template="{text}"), PARAMS))
    places.append(shown_rows(DATA).memo("model", DATA, dataclasses.replace(PARAMS, max_tokens=PARAMS.max_tokens + 1)))
    heldout.write_bytes(b"other rows")
    places.append(shown_rows(DATA).memo("model", DATA, PARAMS))
    assert len(set(places)) == len(places)


EDITS = """
import json, sys
from redistill.data.params import DataParams, SourceParams
from redistill.evaluation.params import BenchmarkParams
from tasks.running.work_directory import work_directory
from tasks.locking.code_lock import lock_code
from tasks.stages import benchmark
from tasks.results.rows import shown_rows
data = DataParams(name="tiny", source=(SourceParams(path="rows.jsonl", splits={"pool": 1.0}),), task="generation")
places = []
for file in ["", *sys.argv[1:]]:
    if file:
        with open(file, "a", encoding="utf-8") as handle:
            handle.write("CHANGED = True\\n")
    lock_code()
    memo = shown_rows(data).memo("model", data, BenchmarkParams())
    places.append({"benchmark": str(memo), "finetune": str(work_directory("finetune-kd", "rows"))})
print(json.dumps([benchmark.__file__, places]))
"""


def test_edited_code_finds_neither_old_results_nor_old_checkpoints(tmp_path: Path) -> None:
    """In a project of its own, whose stages run the code that lies there."""
    for name in ("src", "tasks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (tmp_path / "artifacts/prompts").mkdir(parents=True)
    (tmp_path / "artifacts/prompts/heldout.parquet").write_bytes(b"rows")
    edits = {
        "tasks/stages/benchmark.py": {"benchmark"},
        "src/redistill/distillation/training/loop.py": {"finetune"},
        "src/redistill/runtime/precision.py": {"benchmark", "finetune"},
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(tmp_path / "src")])}
    command = [sys.executable, "-c", EDITS, *edits]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    file, places = json.loads(done.stdout)
    assert Path(file) == tmp_path / "tasks/stages/benchmark.py"
    for (edited, stale), before, after in zip(edits.items(), places, places[1:], strict=False):
        assert {name for name in before if before[name] != after[name]} == stale, edited
