"""The paths of a project's files. Only this module has them."""

from __future__ import annotations

from pathlib import Path

ARTIFACTS = Path("artifacts")
STATE = Path(".redistill")
TRAFFIC = STATE / "traffic"
DECISIONS = STATE / "serving" / "decisions.jsonl"
COMPARISONS = STATE / "serving" / "comparisons.jsonl"
"""What the router logs."""
ROUTER = STATE / "serving" / "router.json"
"""The address of the router that runs here, and the token of its drills. It is about a process of this machine, and in no backup."""
IMPORTS = STATE / "imports"
"""What `redistill traffic import` writes, if it is told no other folder."""
SNAPSHOTS = STATE / "snapshots"
"""The logged prompts that cycles took."""
FORGOTTEN = Path("forgotten.jsonl")
"""Prompts that were removed with `redistill forget`, as digests. It belongs under version control, as the locks do."""
SOURCES = Path("sources.lock.json")
LOCK = Path("teacher.lock.json")
CODE = Path("code.lock.json")
LOCKED_FROM = {LOCK.name: "tune_teacher"}
"""Lock → the stage whose output it locks. dvc.yaml does not know this dependency, since the lock is written between two stages."""
