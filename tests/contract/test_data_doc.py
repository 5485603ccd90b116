"""Every format that docs/data.md names has an example file there, and all of them hold the same rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from redistill.data.params import ColumnParams, DataParams, RecordParams, SourceParams
from redistill.data.sources import load
from redistill.params import parse_params

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "data.md").read_text(encoding="utf-8")
OBJECTS = "objects.jsonl"
EXAMPLES = sorted(set(re.findall(r"\]\(formats/([^)]+)\)", PAGE)) - {OBJECTS})


def test_every_file_is_named_in_the_page() -> None:
    files = {p.relative_to(DOCS / "formats").as_posix() for p in (DOCS / "formats").rglob("*") if p.is_file()}
    assert files - {"hub/rows.jsonl"} == {*EXAMPLES, OBJECTS} and f"(formats/{OBJECTS})" in PAGE


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_holds_the_rows(example: str) -> None:
    path = "hf:./formats/hub#messages" if example.startswith("hub/") else f"formats/{example}"
    data: Any = DataParams(
        name="x",
        source=(SourceParams(path=path, splits={"train": 1.0}),),
        task="classification",
        record=RecordParams(labels=("card_arrival", "fee")),
        columns=ColumnParams(slice="channel"),
    )
    rows = [(p.source_id, p.text, p.label, p.slice) for p in load(data, DOCS)["train"]]
    assert rows == [
        ("m1", "My card has not arrived yet.", "card_arrival", "app"),
        ("m2", "Why was I charged a fee of £5?", "fee", "mail"),
    ]


def test_the_params_of_a_teacher_prompt_can_be_used_as_they_are() -> None:
    [block] = re.findall(r"```yaml\n(teacher:.*?)```", PAGE, re.S)
    tree = yaml.safe_load((DOCS.parent / "params.yaml").read_text(encoding="utf-8"))
    assert parse_params(merged(tree, yaml.safe_load(block))).teacher.prompt.examples == 8


def merged(tree: Any, changes: Any) -> Any:
    return {**tree, **{k: merged(tree.get(k, {}), v) if isinstance(v, dict) else v for k, v in changes.items()}}


def test_labels_that_are_objects_are_read_by_the_schema_of_the_page() -> None:
    [written] = re.findall(r"```yaml\n(data:\n  task: json.*?)```", PAGE, re.DOTALL)
    tree = yaml.safe_load(written)["data"]
    source = SourceParams(path=f"formats/{OBJECTS}", splits={"train": 1.0})
    data: Any = DataParams(name="x", source=(source,), task=tree["task"], schema=tree["schema"], columns=ColumnParams(slice="channel"))
    labels = [p.label for p in load(data, DOCS)["train"]]
    assert labels == ['{"intent": "card_arrival", "urgent": false}', '{"intent": "fee", "urgent": false, "amounts": ["£5"]}']
