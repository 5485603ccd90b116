"""What a benchmark remembers is forgotten when anything that made it changes, the measuring code included."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from redistill import checkpoints
from redistill.config import BenchmarkParams, DataParams, SourceParams
from tasks import benchmark

DATA = DataParams(name="tiny", source=(SourceParams(path="rows.jsonl", splits={"pool": 1.0}),), task="generation")


def test_memory_is_bound_to_model_rows_template_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heldout = tmp_path / "heldout.parquet"
    heldout.write_bytes(b"rows")
    package = tmp_path / "redistill"
    shutil.copytree(Path(checkpoints.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(benchmark, "HELDOUT", heldout)
    monkeypatch.setattr(checkpoints, "__file__", str(package / "checkpoints.py"))
    params = BenchmarkParams()
    places = [benchmark.memo_directory("model", DATA, params)]
    assert benchmark.memo_directory("model", DATA, params) == places[0]
    places.append(benchmark.memo_directory("another", DATA, params))
    places.append(benchmark.memo_directory("model", dataclasses.replace(DATA, prompt_template="{text}"), params))
    places.append(benchmark.memo_directory("model", DATA, dataclasses.replace(params, max_tokens=params.max_tokens + 1)))
    with open(package / "evaluation.py", "a", encoding="utf-8") as handle:
        handle.write("# another way to count\n")
    places.append(benchmark.memo_directory("model", DATA, params))
    heldout.write_bytes(b"other rows")
    places.append(benchmark.memo_directory("model", DATA, params))
    assert len(set(places)) == len(places)
