"""Every format that docs/data.md names has an example file there, and all of them hold the same rows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from redistill.data.params import ColumnParams, DataParams, RecordParams, SourceParams
from redistill.data.sources import load
from redistill.data.traffic.formats.all_formats import FORMATS
from redistill.data.types import Message
from redistill.params import load_params, parse_params
from redistill.validation.traffic.imports import ImportSettings, Tally, imported

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "data.md").read_text(encoding="utf-8")
OBJECTS = "objects.jsonl"
NAMED = set(re.findall(r"\]\(formats/([^)]+)\)", PAGE))
TRACES = dict(sorted((file, name) for name, file in re.findall(r"^\| `(\w+)` \|.*\]\(formats/(traces/[^)]+)\) \|$", PAGE, re.M)))
EXAMPLES = sorted(NAMED - {OBJECTS, *TRACES})


def test_every_file_is_named_in_the_page() -> None:
    files = {p.relative_to(DOCS / "formats").as_posix() for p in (DOCS / "formats").rglob("*") if p.is_file()}
    assert files - {"hub/rows.jsonl"} == NAMED == {*EXAMPLES, OBJECTS, *TRACES}


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


@pytest.mark.parametrize("example", TRACES)
def test_an_example_of_traces_holds_the_prompts(example: str) -> None:
    params = load_params(DOCS.parent / "params.yaml")
    settings, tally = ImportSettings(TRACES[example], "terms of use", "CC0-1.0", "channel", params.intake.max_chars), Tally()
    rows = [(row.messages, row.slice, row.source) for row in imported(DOCS / "formats" / example, params.data, settings, set(), tally)]
    assert rows == [
        ((Message("user", "My card has not arrived yet."),), "app", TRACES[example]),
        ((Message("user", "Why was I charged a fee of £5?"),), "mail", TRACES[example]),
    ]
    assert (tally.replaced, tally.broken_rows, dict(tally.left_out)) == (0, 0, {})


def test_every_format_of_traces_has_an_example() -> None:
    assert set(TRACES.values()) == set(FORMATS)


def test_the_sources_of_traffic_can_be_used_as_they_are() -> None:
    [block] = re.findall(r"```yaml\n(data:\n  source:.*?)```", PAGE, re.S)
    tree = merged(yaml.safe_load((DOCS.parent / "params.yaml").read_text(encoding="utf-8")), yaml.safe_load(block))
    # Without a split for people to look at, held-out rows are open.
    tree["promote"].pop("heldout", None)
    assert [(source.path, source.max_rows) for source in parse_params(tree).data.traffic] == [
        ("traffic:router", 2000),
        ("traffic:.redistill/imports", 2000),
    ]


def test_the_command_of_the_page_has_the_options_that_it_names() -> None:
    [command] = re.findall(r"^redistill traffic import .*$", PAGE, re.M)
    told = subprocess.run(
        [sys.executable, "-m", "redistill", "traffic", "import", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200"},
    ).stdout
    for option in re.findall(r"--[a-z-]+", command):
        assert option in told


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
