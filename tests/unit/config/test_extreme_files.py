"""A params.yaml that is huge, deep or endless ends in one short line, and soon: a test that runs for ever is ended by the suite's limit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from redistill.config.file import load_sections, read_tree
from redistill.data.grammars.record import Record
from redistill.data.params import DataParams, RecordParams
from redistill.errors import ConfigError, DataError
from redistill.params import parse_params
from tests.unit.test_params import MINIMAL

MANY = [f"label_{n}" for n in range(100_000)]
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)) + "data: *a11\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: " + "[" * 900 + "]" * 900, "nested too deeply"),
        ("data: " + "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("data: " + "{a: " * 900 + "1" + "}" * 900, "nested too deeply"),
        ("data: &a [*a]\n", "contains itself"),
        (BOMB, r"its aliases stand for 7e\+11 values, and the limit is 2,000,000"),
    ],
    ids=["lists", "very deep lists", "mappings", "cycle", "aliases"],
)
def test_deep_and_endless_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_tree(tmp_path / "params.yaml")
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_text_that_dvc_cannot_parse_is_refused_at_once(tmp_path: Path) -> None:
    """DVC's parser refuses a colon in a value without quotes between braces. A cycle used to end at its first stage."""
    (tmp_path / "params.yaml").write_text("data:\n  name: x\n  list:\n    - {model: package:name, backend: vllm}\n")
    with pytest.raises(
        ConfigError, match=r"params.yaml line 4: DVC reads this file too and cannot parse it here \(.*\); put the value in quotes"
    ):
        read_tree(tmp_path / "params.yaml")


def test_aliases_that_save_typing_are_read(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("base: &base {a: 1}\nother: {a: 1, b: *base}\n")
    assert read_tree(tmp_path / "params.yaml")["other"] == {"a": 1, "b": {"a": 1}}


def test_a_hundred_thousand_labels_are_checked_and_read(tmp_path: Path) -> None:
    tree = {"data": {"name": "many", "source": "rows.jsonl", "task": "classification", "record": {"labels": MANY}}}
    (tmp_path / "params.yaml").write_text(yaml.dump(tree, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))
    [data] = load_sections([DataParams], tmp_path / "params.yaml")
    for label in MANY[::50]:
        assert data.grammar.parse(label) == Record((label,), (), ())
    with pytest.raises(DataError, match=r"known labels: label_0, .*label_19 and 99,980 more$"):
        data.grammar.parse("unknown")


def test_a_label_that_is_listed_twice_among_many_is_named() -> None:
    with pytest.raises(ValueError, match="'label_7' is listed twice"):
        RecordParams(labels=(*MANY, "label_7"))


def test_a_hundred_thousand_problems_are_one_readable_line() -> None:
    tree = copy.deepcopy(MINIMAL)
    tree["data"]["record"]["labels"] = list(range(100_000))
    tree["data"]["name"] = "X" * 1_000_000
    with pytest.raises(ConfigError, match=r"100,001 problems: .* and 99,971 more$") as caught:
        parse_params(tree)
    assert len(str(caught.value)) < 5000
