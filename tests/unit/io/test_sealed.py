"""Sealed files: what was written comes back, nobody reads it by accident, and damage is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.errors import DataError
from redistill.io.sealed import seal, unseal

CONTENT = b'{"exact_match": 0.6240, "response": "card_lost; urgent"}' * 20


def test_what_was_sealed_comes_back_and_is_no_plain_text(tmp_path: Path) -> None:
    file = tmp_path / "results.sealed"
    seal(file, CONTENT)
    raw = file.read_bytes()
    assert unseal(file) == CONTENT
    assert raw.startswith(b"redistill: sealed results on held-out rows.\n") and b"heldout retire" in raw
    assert b"card_lost" not in raw and b"0.62" not in raw


@pytest.mark.parametrize("damage", [lambda raw: raw[:-5], lambda raw: b"not a sealed file", lambda raw: raw.replace(b"--\n", b"--\nx", 1)])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, damage: object) -> None:
    file = tmp_path / "results.sealed"
    seal(file, CONTENT)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"is damaged .*; run the stage `heldout` again"):
        unseal(file)


def test_a_missing_file_names_the_stage_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read .* run the stage `heldout` again"):
        unseal(tmp_path / "results.sealed")
