"""Why a stage runs again, in a few words: not one phrase for each of its outputs."""

from __future__ import annotations

from typing import Any

import pytest

from redistill.provenance.dvc_lock import LockedStage
from tasks.running.reasons import reasons

LOCKED = LockedStage("prepare", (), (), ())


@pytest.mark.parametrize(
    ("status", "phrases"),
    [
        ([], []),
        (["changed command"], ["its command changed"]),
        ([{"changed outs": {"a.parquet": "not in cache"}}], ["a.parquet was not in cache"]),
        (
            [{"changed outs": {"a.parquet": "not in cache", "b.parquet": "deleted", "c.parquet": "not in cache"}}],
            ["2 of its outputs were not in cache", "b.parquet was deleted"],
        ),
        (
            [{"changed deps": {"teacher.lock.json": {"current": "modified"}, "a.parquet": "modified", "b.parquet": "new"}}],
            ["the teacher changed", "a.parquet was modified", "b.parquet is new"],
        ),
        ([{"changed deps": {"params.yaml": {"finetune.kd": "modified", "data": "new"}}}], ["params.yaml: data, finetune.kd"]),
    ],
)
def test_each_change_is_one_phrase(status: list[Any], phrases: list[str]) -> None:
    assert list(reasons("prepare", status, LOCKED)) == phrases


def test_a_stage_that_is_new_has_one_reason() -> None:
    assert list(reasons("prepare", [{"changed outs": {"a.parquet": "deleted"}}], None)) == ["it has not run here before"]
