"""Every claim of docs/security.md, and every step of docs/deploy.md, names a test that exists."""

from __future__ import annotations

import re

import pytest

from tests.tiny_project import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "at_least"), [("security", 25), ("deploy", 10)])
def test_the_named_tests_exist(page: str, at_least: int) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"))
    assert len(named) >= at_least
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")]
    assert not missing


def test_every_claim_names_one() -> None:
    claims = PAGE.split("## What is not protected")[0].split("## Loading models")[1]
    rows = [line for line in claims.splitlines() if line.startswith("| ") and not line.startswith(("| claim", "|---"))]
    assert len(rows) >= 20
    assert not [row for row in rows if "::test_" not in row and "the same test" not in row]
