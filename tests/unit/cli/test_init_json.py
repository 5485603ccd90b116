"""``redistill init`` with labels that are JSON objects: a draft of their schema, under which all of them are valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redistill.data import sources
from redistill.data.inspection import inspect
from redistill.data.templates import last_content
from redistill.errors import ConfigError
from redistill.params import load_params
from tests.unit.cli.test_init import init, jsonl

LABELS: list[dict[str, Any]] = [
    {"topic": "fee: monthly", "urgent": True, "amounts": ["£5"], "contact": {"name": "Ann {1}", "phone": None}, "score": 1},
    {"topic": "card", "urgent": False, "amounts": [], "contact": {"name": "Bob, the 2nd", "phone": "none"}, "score": 0.5},
    {"topic": "null", "urgent": False, "amounts": ["£7", "£8"], "score": 2},
]


def rows(count: int = 60) -> list[dict[str, Any]]:
    labels = [{**LABELS[n % 3], "note": f"number {n}"} for n in range(count)]
    return [{"text": f"what about number {n} of my things?", "label": label} for n, label in enumerate(labels)]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("teacher", [(), ("--teacher", "openai:big")], ids=["local", "endpoint"])
def test_all_labels_are_valid_under_the_draft(tmp_path: Path, as_text: bool, teacher: tuple[str, ...]) -> None:
    written = [{**row, "label": json.dumps(row["label"])} for row in rows()] if as_text else rows()
    init(tmp_path / "project", "--data", jsonl(tmp_path / "rows.jsonl", written), *teacher)
    params = load_params(tmp_path / "project/params.yaml")
    splits = sources.load(params.data, tmp_path / "project")
    assert params.data.task == "json" and sum(map(len, splits.values())) == 60
    # Labels of the pool are checked and then left out.
    labels = [json.loads(p.label) for split in splits.values() for p in split if p.label is not None]
    written_labels = [row["label"] for row in rows()]
    assert len(labels) > 30 and all(label in written_labels for label in labels)
    assert params.data.schema is not None and params.data.grammar is not None
    properties = params.data.schema["properties"]
    assert properties["topic"] == {"enum": ["card", "fee: monthly", "null"]} and properties["note"] == {"type": "string"}
    assert properties["score"] == {"type": "number"} and properties["contact"]["properties"]["phone"] == {"type": ["null", "string"]}
    assert params.data.schema["required"] == ["topic", "urgent", "amounts", "score", "note"]
    assert 'topic="null"' in params.data.grammar.names


def test_objects_of_a_parquet_table_are_labels(tmp_path: Path) -> None:
    labels = [{"topic": ("fee", "card")[n % 2], "urgent": n % 3 == 0} for n in range(40)]
    texts = [f"what about number {n} of my things?" for n in range(40)]
    pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "rows.parquet")
    init(tmp_path / "project", "--data", tmp_path / "rows.parquet")
    params = load_params(tmp_path / "project/params.yaml")
    assert params.data.task == "json" and sum(map(len, sources.load(params.data, tmp_path / "project").values())) == 40


def test_a_row_whose_label_is_no_object_is_named(tmp_path: Path) -> None:
    mixed = jsonl(tmp_path / "rows.jsonl", [{**row, "label": "fee"} if n == 7 else row for n, row in enumerate(rows())])
    for task in (None, "json"):
        with pytest.raises(
            ConfigError, match="has 1 of 60 different labels that are no JSON objects .* correct these rows, or use --task generation"
        ):
            inspect(mixed, task=task)  # type: ignore[arg-type]
    assert inspect(mixed, task="generation").task == "generation"


def test_the_instruction_for_an_endpoint_holds_the_schema_as_it_is(tmp_path: Path) -> None:
    init(tmp_path / "project", "--data", jsonl(tmp_path / "rows.jsonl", rows()), "--teacher", "openai:big")
    data = load_params(tmp_path / "project/params.yaml").data
    [prompt, *_] = sources.load(data, tmp_path / "project")["train"]
    assert f"JSON Schema: {json.dumps(data.schema, ensure_ascii=False)}\n\nwhat about number" in last_content(prompt, data)
