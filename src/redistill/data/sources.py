"""From a user's files to prompts in five splits.

A source is a JSONL, CSV or Parquet file, or a hub data set (``hf:owner/name[@revision][:split]``, or ``hf:/directory`` in
hub layout). Its rows have ``text`` (or a conversation) and may have ``label``, ``id`` and ``slice``. The split of a row is
a hash of what it asks, so no row changes its split when sources grow, and equal requests are always in the same split.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from redistill.data.column_names import check_columns
from redistill.data.params import UNLABELLED, ColumnParams, DataParams, SourceParams
from redistill.data.readers.files import hub_directory, source_file
from redistill.data.readers.hub import HUB_SOURCE, hub_builder
from redistill.data.rows import SourceRow, read_source
from redistill.data.traffic.snapshots import snapshot_prompts
from redistill.data.types import SPLITS, Prompt
from redistill.errors import DataError
from redistill.io.digests import canonical_digest, file_digest, tree_digest


def load(data: DataParams, root: Path, snapshots: Mapping[str, Path] | None = None) -> dict[str, list[Prompt]]:
    """All sources as prompts by split, in the order of the files; relative paths start at ``root``. Traffic comes last, from its ``snapshots``, by source.

    Rows in pool lose their label, because the teacher labels them. Calibration rows keep theirs, if they have one: it shows how often student and teacher are
    right. Equal requests are all kept here; intake drops the later ones and reports it.

    Raises:
        DataError: a source or a row is not what it must be; one line with file, line, value and what to do.
    """
    splits: dict[str, list[Prompt]] = {name: [] for name in SPLITS}
    ids, names = set[str](), set[str]()
    for source in data.files:
        unlabelled = None
        for where, prompt in _prompts(source, ids, names, data, root):
            split = split_of(prompt.id, source.splits)
            if split == "pool":
                splits[split].append(replace(prompt, label=None) if prompt.label else prompt)
            elif split and split not in UNLABELLED and prompt.label is None:
                unlabelled = unlabelled or f"{where}: a row without {data.columns.label!r} belongs to split {split}, which needs labels"
            elif split:
                splits[split].append(prompt)
        # What cannot be read at all is reported first.
        if unlabelled:
            raise DataError(f"{unlabelled}; label it, or list unlabelled rows as a separate source with splits pool and calibration only")
    _check_named(data, names)
    for split, prompt in _logged(data, snapshots or {}):
        splits[split].append(prompt)
    return splits


def source_lock(data: DataParams, root: Path = Path()) -> dict[str, Any]:
    """What ``load`` reads, by content: sha256 of each file or directory; of a hub data set its commit and the rows' digest. Traffic is locked by a snapshot.

    Raises:
        DataError: as ``load``.
    """
    entries: list[dict[str, str | None]] = []
    for source in data.files:
        hub = HUB_SOURCE.fullmatch(source.path)
        revision = None
        if hub is None:
            digest = file_digest(source_file(source.path, root))
        elif hub["name"][0] in "./":
            digest = tree_digest(hub_directory(source.path, hub["name"], root))
        else:
            # The builder's base path names the commit that the revision stood for when it was read.
            revision = next(iter(re.findall(r"@([0-9a-f]{40})", str(hub_builder(source.path, root).base_path))), hub["revision"])
            digest = canonical_digest([_canonical(row) for row in read_source(source, data, root)])
        entries.append({"path": source.path, "revision": revision, "sha256": digest})
    return {"sources": entries}


def _canonical(row: SourceRow) -> dict[str, Any]:
    tree = {
        "messages": [[m.role, m.content] for m in row.messages],
        "label": row.label,
        "id": row.id,
        "slice": row.slice,
        "planted": row.planted,
    }
    return {**tree, **({"columns": [[c.name, c.value] for c in row.columns]} if row.columns else {})}


def file_locks(paths: Sequence[str], root: Path = Path()) -> list[dict[str, str]]:
    """Path and sha256 of files that stages read besides the sources.

    Raises:
        DataError: one is missing.
    """
    return [{"path": path, "sha256": file_digest(source_file(path, root, "benchmark"))} for path in paths]


def split_of(identity: str, shares: dict[str, float]) -> str | None:
    """The split that a prompt id falls into, None for the share that is left out."""
    position, edge, last = int(identity[:8], 16) / 2**32, 0.0, None
    for name in (n for n in SPLITS if shares.get(n, 0.0) > 0):
        edge, last = edge + shares[name], name
        if position < edge:
            return name
    # If the shares sum to one, apart from a rounding error, no row is left out.
    return last if edge > 1 - 1e-9 else None


def _check_named(data: DataParams, names: set[str]) -> None:
    """A column that params name is in some row. A default name need not be: rows may have no label, id or slice."""
    defaults = ColumnParams()
    named = {
        key: getattr(data.columns, key) for key in ("text", "label", "id", "slice") if getattr(data.columns, key) != getattr(defaults, key)
    }
    for key, name in named.items():
        # Earlier versions of `redistill init` wrote this name for "no column".
        if name is None or name == "no_such_column":
            continue
        check_columns([name], names, ", ".join(source.path for source in data.files), f"data.columns.{key}")


def _prompts(source: SourceParams, ids: set[str], names: set[str], data: DataParams, root: Path) -> Iterator[tuple[str, Prompt]]:
    """The place and the prompt of each row, or of a subset. ``ids`` are those of earlier sources, ``names`` their columns; the new ones are added."""
    rows = _with_new_ids(read_source(source, data, root, names), ids, data, root)
    prompts = ((r.where, Prompt.of(r.messages, r.id, r.slice, r.label, source.path, r.planted, r.columns)) for r in rows)
    return prompts if data.max_rows is None else iter(_subset(list(prompts), data.max_rows))


def _logged(data: DataParams, snapshots: Mapping[str, Path]) -> Iterator[tuple[str, Prompt]]:
    """Logged prompts with their splits."""
    for source in data.traffic:
        if (file := snapshots.get(source.path)) is None:
            continue
        rows = [(source.path, prompt) for prompt in snapshot_prompts(file, source.path)]
        for _, prompt in rows if data.max_rows is None else _subset(rows, data.max_rows):
            if split := split_of(prompt.id, source.splits):
                yield split, prompt


def _with_new_ids(rows: Iterator[SourceRow], ids: set[str], data: DataParams, root: Path) -> Iterator[SourceRow]:
    for row in rows:
        if row.id in ids:
            # The places of a million rows are not kept for this message: the sources are read again.
            again = (other for source in data.files for other in read_source(source, data, root))
            first = next(other.where for other in again if other.id == row.id)
            raise DataError(
                f"{row.where}: its id is already used in {first}; ids must be unique over all sources; give this row another id"
            )
        ids.add(row.id)
        yield row


def _subset(rows: list[tuple[str, Prompt]], limit: int) -> list[tuple[str, Prompt]]:
    if len(rows) <= limit:
        return rows
    # Not the hash that decides the split: the rows with its smallest values are all in the first split.
    order = sorted(range(len(rows)), key=lambda i: (hashlib.sha256(f"max_rows {rows[i][1].id}".encode()).digest(), i))
    return [rows[i] for i in sorted(order[:limit])]
