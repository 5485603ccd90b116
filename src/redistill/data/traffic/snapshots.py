"""Snapshots of traffic: the logged prompts that a cycle took, in a file that does not change while the log grows.

A snapshot is two files. ``DIGEST.parquet`` holds the rows, without completions. ``DIGEST.json`` lists a digest of each prompt id, and its slice, without
text; DIGEST is the sha256 of that list. A prompt id is itself a digest of the prompt, so the rows can be checked against the list, and a row can be removed from
the Parquet file (``redistill forget``) without a change of DIGEST.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Prompt, prompt_id
from redistill.errors import DataError
from redistill.io.digests import canonical_digest, text_digest
from redistill.io.json import read_json, write_json
from redistill.io.parquet import iter_records, read_records, write_records

_ID_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """``problem`` says what is wrong with a snapshot; empty where nothing is. ``forgotten`` rows were removed after it was taken."""

    problem: str = ""
    forgotten: int = 0


def write_snapshot(folder: Path, rows: Iterable[LoggedRequest]) -> Path:
    """Write the rows, in the order of their ids and without completions, and return the Parquet file. Equal prompts are an equal file."""
    ordered = sorted((replace(row, student=None, teacher=None) for row in rows), key=lambda row: row.prompt_id)
    listed = _listed(ordered)
    file = folder / f"{canonical_digest(listed)}.parquet"
    # A file that lost rows is written again only where the log still has them.
    if not file.is_file() or _listed(read_records(file, LoggedRequest)) != listed:
        write_records(file, LoggedRequest, ordered)
        write_json(file.with_suffix(".json"), listed)
    return file


def _listed(rows: Iterable[LoggedRequest]) -> list[list[str]]:
    return [[_named(row), row.slice] for row in rows]


def _named(row: LoggedRequest) -> str:
    """Not the prompt id itself: when the row is forgotten, no other file can be searched for it."""
    return text_digest(f"snapshot\n{row.prompt_id}")


def snapshot_prompts(file: Path, source: str) -> Iterator[Prompt]:
    """The prompts of a snapshot. They have no label, and no completion of any model comes with them.

    Raises:
        DataError: the file is missing or damaged, or does not hold what its name says.
    """
    if problem := check_snapshot(file).problem:
        raise DataError(f"{source}: {problem}; run `redistill lock`, which takes a new snapshot")
    for row in iter_records(file, LoggedRequest):
        yield Prompt.of(row.messages, f"traffic:{row.prompt_id[:_ID_CHARACTERS]}", row.slice, None, source, columns=row.columns)


def check_snapshot(file: Path) -> SnapshotState:
    """Whether a snapshot holds rows of its list and no others, and whether the list is the one that the file is named by."""
    names = file.with_suffix(".json")
    if not (file.is_file() and names.is_file()):
        return SnapshotState(f"the snapshot {file} is missing")
    try:
        listed, rows = read_json(names), read_records(file, LoggedRequest)
    except DataError as error:
        return SnapshotState(f"the snapshot is damaged ({error})")
    if canonical_digest(listed) != file.stem:
        return SnapshotState(f"{names} is not the list that the snapshot was taken with")
    known = {(entry[0], entry[1]) for entry in listed}
    if any((_named(row), row.slice) not in known or prompt_id(row.messages, row.columns) != row.prompt_id for row in rows):
        return SnapshotState(f"{file} holds a row that the snapshot was taken without")
    return SnapshotState(forgotten=len(listed) - len(rows))
