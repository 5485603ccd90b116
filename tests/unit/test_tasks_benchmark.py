"""What a benchmark remembers is forgotten when anything that made it changes, the measuring code included."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from redistill.config import BenchmarkParams, DataParams, SourceParams
from tasks import benchmark
from tests.contract.code_deps import ROOT
from tests.tiny_project import make_tiny_project

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


def test_memory_is_bound_to_the_stage_s_own_file(tmp_path: Path) -> None:
    """In a project of its own, whose stages run the code that lies there."""
    project = make_tiny_project(tmp_path / "p")
    (project / "artifacts/prompts").mkdir(parents=True)
    (project / "artifacts/prompts/heldout.parquet").write_bytes(b"rows")
    code = (
        "import json; from redistill.config import load_params; from tasks.benchmark import memo_directory; p = load_params(); "
        "print(json.dumps([str(memo_directory('model', p.data, p.benchmark)), memo_directory.__code__.co_filename]))"
    )
    places = []
    for edit in ("", "CHANGED = True\n"):
        with open(project / "tasks/benchmark.py", "a", encoding="utf-8") as file:
            file.write(edit)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project), str(project / "src")])}
        done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=True)
        place, ran = json.loads(done.stdout)
        assert Path(ran) == project / "tasks/benchmark.py" and ROOT not in Path(ran).parents
        places.append(place)
    assert places[0] != places[1]
