"""A restore keeps the tombstones of the directory, whenever it was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.data.forgotten import Tombstone, bury, read_tombstones, tombstone_digest
from redistill.operations import restored_files


def stone(text: str, at: str) -> Tombstone:
    return Tombstone(tombstone_digest(text), at, "asked")


@pytest.mark.parametrize("in_archive", [True, False])
@pytest.mark.parametrize("rename", [0, 1, 2])
def test_tombstones_that_are_newer_than_the_archive_are_kept_and_named(tmp_path: Path, in_archive: bool, rename: int) -> None:
    old, newer, own = stone("a", "2026-01-01"), stone("b", "2026-01-02"), tmp_path / "forgotten.jsonl"
    for each in (old, newer):
        bury(own, each)
    digests = {newer.digest} if in_archive else {old.digest, newer.digest}
    with restored_files.staging(tmp_path) as staging:
        new = restored_files.fresh(staging)
        (new / "params.yaml").write_text("data: {name: x}\n", encoding="utf-8")
        if in_archive:
            bury(new / "forgotten.jsonl", old)
        assert set(restored_files.keep_tombstones(tmp_path, staging, "forgotten.jsonl")) == digests
        # An interruption before or after the first or the second rename, then the same command again.
        if in_archive and rename:
            (staging / "old").mkdir()
            own.replace(staging / "old/forgotten.jsonl")
        if in_archive and rename == 2:
            (new / "forgotten.jsonl").replace(own)
        assert set(restored_files.keep_tombstones(tmp_path, staging, "forgotten.jsonl")) == digests
        restored_files.put_in_place(tmp_path, staging)
    assert read_tombstones(own) == [old, newer]
