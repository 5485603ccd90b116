"""Triggers that arrive during a cycle become one later cycle with all of their reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.orchestration import pending


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_reasons_are_kept_once_and_taken_together() -> None:
    for reason in ("nightly", "teacher changed", "nightly"):
        pending.add(reason)
    assert pending.waiting() == ["nightly", "teacher changed"]
    assert pending.take() == ["nightly", "teacher changed"] and pending.waiting() == [] == pending.take()


def test_a_file_that_cannot_be_read_still_asks_for_a_cycle() -> None:
    pending.add("nightly")
    pending.PENDING.write_text('["nigh', encoding="utf-8")
    assert pending.take() == ["a trigger whose reason could not be read"] and pending.take() == []


def test_many_triggers_keep_the_newest_reasons() -> None:
    for number in range(50):
        pending.add(f"trigger {number}")
    assert pending.waiting() == [f"trigger {number}" for number in range(30, 50)]
