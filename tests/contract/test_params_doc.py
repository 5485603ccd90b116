"""docs/params.md says of every key what the code says, and every yaml block of the docs is YAML that means something."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from redistill.config.yaml_keys import UniqueKeys
from redistill.params import Params, load_params, parse_params
from tests.contract import params_doc
from tests.tiny_project import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}:{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.S))
]


def test_the_page_is_what_the_command_writes() -> None:
    assert params_doc.page() == params_doc.FILE.read_text(encoding="utf-8"), "run python -m tests.contract.params_doc --fix"


def test_every_key_of_the_example_is_on_the_page() -> None:
    text = params_doc.FILE.read_text(encoding="utf-8")
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert set(tree) <= set(Params.__dataclass_fields__)
    for section, keys in tree.items():
        part = text[text.index(f"\n## {section}\n") :]
        for key in keys:
            assert f"`{key}" in part, f"{section}.{key}"


@pytest.mark.parametrize("text", BLOCKS)
def test_yaml_of_the_docs_is_valid_params(text: str) -> None:
    """A block is laid over the example's params, which must then still be valid."""
    block = yaml.load(text, Loader=UniqueKeys)
    tree = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"), Loader=UniqueKeys)
    if "task" in (block.get("data") or {}):
        # Another task has other labels.
        del tree["promote"]["critical_labels"]
    parse_params(merged(tree, block), "the block")
    assert load_params(ROOT / "params.yaml")


def merged(tree: Any, block: Any) -> Any:
    if not isinstance(tree, dict) or not isinstance(block, dict):
        return block
    return {**tree, **{key: merged(tree.get(key), value) for key, value in block.items()}}


def test_the_pages_are_there() -> None:
    assert all(isinstance(page, Path) and page.is_file() for page in PAGES) and BLOCKS
