"""The snapshots of traffic that ``sources.lock.json`` names."""

from __future__ import annotations

from pathlib import Path

from redistill.data.params import DataParams
from redistill.errors import DataError
from redistill.io.json import read_json
from tasks.paths import SOURCES


def locked_snapshots() -> dict[str, Path]:
    """Name of each locked source of traffic, and the file of its snapshot."""
    entries = read_json(SOURCES).get("sources", []) if SOURCES.is_file() else []
    return {entry["traffic"]: Path(entry["path"]) for entry in entries if "traffic" in entry}


def snapshots_of(data: DataParams) -> dict[str, Path]:
    """The snapshots of the sources of traffic that params name.

    Raises:
        DataError: one of them is not locked.
    """
    locked = locked_snapshots() if data.traffic else {}
    if missing := [source.path for source in data.traffic if source.path not in locked]:
        raise DataError(f"{missing[0]} has no snapshot in {SOURCES}; run `redistill lock`, which takes one")
    return locked
