"""Where a project's files lie: the one place that spells the layout."""

from __future__ import annotations

from pathlib import Path

ARTIFACTS = Path("artifacts")


STATE = Path(".redistill")


LOCK = Path("teacher.lock.json")


LOCKED_FROM = {LOCK.name: "tune_teacher"}
"""The stage whose output a lock locks: an edge that stands in no dvc.yaml, since a lock is written between two stages."""
