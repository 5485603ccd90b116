"""What a benchmark remembers is forgotten when anything that made it changes, the measuring code included."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import redistill
from redistill.config import BenchmarkParams, DataParams, SourceParams
from tasks.benchmark import memo_directory

ROOT = Path(__file__).parents[2]
DATA = DataParams(name="tiny", source=(SourceParams(path="rows.jsonl", splits={"pool": 1.0}),), task="generation")
PARAMS = BenchmarkParams()
ASK = """
from tests.unit.test_tasks_benchmark import *
print(redistill.__file__, memo_directory("model", DATA, PARAMS))
with open(Path(redistill.__file__).parent / "evaluation.py", "a", encoding="utf-8") as handle:
    handle.write("ANOTHER_WAY_TO_COUNT = True\\n")
print(memo_directory("model", DATA, PARAMS))
"""


@pytest.fixture
def heldout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "artifacts" / "prompts" / "heldout.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"rows")
    return file


def test_memory_is_bound_to_model_rows_template_and_measurement(heldout: Path) -> None:
    places = [memo_directory("model", DATA, PARAMS)]
    assert memo_directory("model", DATA, PARAMS) == places[0]
    places.append(memo_directory("another", DATA, PARAMS))
    places.append(memo_directory("model", dataclasses.replace(DATA, prompt_template="{text}"), PARAMS))
    places.append(memo_directory("model", DATA, dataclasses.replace(PARAMS, max_tokens=PARAMS.max_tokens + 1)))
    heldout.write_bytes(b"other rows")
    places.append(memo_directory("model", DATA, PARAMS))
    assert len(set(places)) == len(places)


def test_memory_is_bound_to_the_measuring_code(heldout: Path, tmp_path: Path) -> None:
    """Asked of a process that imports a copy of the package, before and after one of its modules counts in another way."""
    source = tmp_path / "copy"
    shutil.copytree(Path(redistill.__file__).parent, source / "redistill", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tasks", source / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    package, before, after = done.stdout.split()
    assert Path(package).is_relative_to(source)
    assert before == str(memo_directory("model", DATA, PARAMS)), "a copy measures alike"
    assert after != before
