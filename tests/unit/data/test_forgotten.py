"""Tombstones have no text, are written once, and a damaged file is not taken for an empty one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from redistill.data.forgotten import Tombstone, bury, forgotten_digests, read_tombstones, tombstone_digest, unite
from redistill.errors import DataError

STONE = Tombstone(tombstone_digest("a" * 64), "2026-11-28T00:00:00+00:00", "the customer asked", ("d1",), "key:signature")


def test_a_tombstone_is_written_once_and_again_where_it_lists_more(tmp_path: Path) -> None:
    file = tmp_path / "forgotten.jsonl"
    assert read_tombstones(file) == []
    for each in (STONE, replace(STONE, at="later"), replace(STONE, objects=())):
        bury(file, each)
        assert read_tombstones(file) == [STONE]
    more = replace(STONE, objects=("d1", "d2"))
    bury(file, more)
    assert read_tombstones(file) == [STONE, more] and forgotten_digests(file) == {STONE.digest}
    assert "a" * 64 not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("line", ["{", "[]", '{"digest": "x"}', '{"digest": "x", "at": "y", "reason": "z", "text": "w"}'])
def test_a_damaged_file_is_an_error(tmp_path: Path, line: str) -> None:
    file = tmp_path / "forgotten.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1 is no tombstone"):
        read_tombstones(file)


def test_two_files_are_united_and_none_is_lost(tmp_path: Path) -> None:
    file, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first, third = replace(STONE, digest="1", at="2026-01-01"), replace(STONE, digest="3", at="2026-01-03")
    more = replace(first, at="2026-01-02", objects=("d2",))
    for target, stones in ((file, (first, third)), (other, (first, more))):
        for stone in stones:
            bury(target, stone)
    assert unite(file, other) == [more] and read_tombstones(file) == [first, more, third]
    before = file.read_bytes()
    assert unite(file, other) == [] and unite(file, tmp_path / "missing") == [] and file.read_bytes() == before
    other.write_text("{half", encoding="utf-8")
    with pytest.raises(DataError, match="is no tombstone"):
        unite(file, other)
    assert file.read_bytes() == before
