"""From a user's files to prompts in five splits.

A source is a JSONL, CSV or Parquet file, or a hub data set (``hf:owner/name[@revision][:split]``, or ``hf:/directory`` in
hub layout). Its rows have ``text`` (or ``messages``) and may have ``label``, ``id`` and ``slice``. The split of a row is
a hash of its text, so no row changes its split when sources grow, and equal requests are always in the same split.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from redistill.data.params import ColumnParams, DataParams, SourceParams
from redistill.data.readers.by_format import raw_rows
from redistill.data.readers.files import hub_directory, shown_value, source_file
from redistill.data.readers.hub import HUB_SOURCE, hub_builder
from redistill.data.types import SPLITS, Message, Prompt
from redistill.errors import DataError
from redistill.io.digests import canonical_digest, file_digest, tree_digest

_WITHOUT_LABEL = ("pool", "calibration")
"""Splits whose rows need no label: the teacher completes them."""


ROLES = ("system", "user", "assistant", "tool")


DEFAULT_SLICE = "all"


_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def load(data: DataParams, root: Path) -> dict[str, list[Prompt]]:
    """All sources as prompts by split, in the order of the files; relative paths start at ``root``.

    Rows in pool lose their label, because the teacher labels them. Calibration rows keep theirs, if they have one: it shows how often student and teacher are
    right. Equal requests are all kept here; intake drops the later ones and reports it.

    Raises:
        DataError: a source or a row is not what it must be; one line with file, line, value and what to do.
    """
    splits: dict[str, list[Prompt]] = {name: [] for name in SPLITS}
    places: dict[str, str] = {}
    for source in data.source:
        rows = [_prompt(where, row, source, places) for where, row in read_source(source, data.columns, data, root)]
        for where, prompt in _subset(rows, data.max_rows):
            split = split_of(prompt.id, source.splits)
            if split == "pool":
                splits[split].append(Prompt.of(prompt.messages, prompt.source_id, prompt.slice, None, prompt.source, prompt.planted))
            elif split and split not in _WITHOUT_LABEL and prompt.label is None:
                raise DataError(
                    f"{where}: a row without {data.columns.label!r} belongs to split {split}, which needs labels; label it, or list "
                    "unlabelled rows as a separate source with splits pool and calibration only"
                )
            elif split:
                splits[split].append(prompt)
    return splits


def source_lock(data: DataParams, root: Path = Path()) -> dict[str, Any]:
    """What ``load`` reads, by content: sha256 of each file or directory; of a hub data set its commit and the rows' digest.

    Raises:
        DataError: as ``load``.
    """
    entries: list[dict[str, str | None]] = []
    for source in data.source:
        hub = HUB_SOURCE.fullmatch(source.path)
        revision = None
        if hub is None:
            digest = file_digest(source_file(source.path, root))
        elif hub["name"][0] in "./":
            digest = tree_digest(hub_directory(source.path, hub["name"], root))
        else:
            # The builder's base path names the commit that the revision stood for when it was read.
            revision = next(iter(re.findall(r"@([0-9a-f]{40})", str(hub_builder(source.path, root).base_path))), hub["revision"])
            rows = (row for _, row in read_source(source, data.columns, data, root))
            digest = canonical_digest([{**row, "messages": [[m.role, m.content] for m in row["messages"]]} for row in rows])
        entries.append({"path": source.path, "revision": revision, "sha256": digest})
    return {"sources": entries}


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


def read_source(source: SourceParams, columns: ColumnParams, data: DataParams, root: Path = Path()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its place ("file, line N"), as ``messages``, ``label``, ``id``, ``slice`` and ``planted``, checked.

    Raises:
        DataError: see ``load``.
    """
    count = 0
    for number, values in raw_rows(source.path, root):
        count += 1
        where = f"{source.path}, {number}"
        messages = _messages(values, columns, where)
        row = {
            name: _short(values.get(key), name, where)
            for name, key in (("label", columns.label), ("id", columns.id), ("slice", columns.slice))
        }
        label = _checked_label(row["label"], messages[-1].content, data, where)
        planted = _short(values.get("planted"), "planted", where)
        identity = row["id"] or f"{_stem(source.path)}:{number.split()[-1]}"
        yield where, {"messages": messages, "label": label, "id": identity, "slice": row["slice"] or DEFAULT_SLICE, "planted": planted}
    if count == 0:
        raise DataError(f"{source.path} has no rows; give it at least one, or remove it from data.source")


def _prompt(where: str, row: dict[str, Any], source: SourceParams, places: dict[str, str]) -> tuple[str, Prompt]:
    first = places.setdefault(row["id"], where)
    if first != where:
        raise DataError(
            f"{where}: id {row['id']!r} is already used in {first}; ids must be unique over all sources; give this row another id"
        )
    return where, Prompt.of(row["messages"], row["id"], row["slice"], row["label"], source.path, row["planted"])


def _subset(rows: list[tuple[str, Prompt]], limit: int | None) -> list[tuple[str, Prompt]]:
    if limit is None or len(rows) <= limit:
        return rows
    # Not the hash that decides the split: the rows with its smallest values are all in the first split.
    order = sorted(range(len(rows)), key=lambda i: (hashlib.sha256(f"max_rows {rows[i][1].id}".encode()).digest(), i))
    return [rows[i] for i in sorted(order[:limit])]


def _messages(values: dict[str, Any], columns: ColumnParams, where: str) -> tuple[Message, ...]:
    if (text := values.get(columns.text)) is not None:
        turns: Any = [{"role": "user", "content": text}]
    elif (turns := values.get("messages")) is None:
        has = ", ".join(sorted(str(k) for k in values)) or "nothing"
        raise DataError(f"{where}: no {columns.text!r} and no 'messages' (the row has {has}); name the column in data.columns.text")
    if not isinstance(turns, list) or not turns or not all(isinstance(t, dict) for t in turns):
        raise DataError(f"{where}: messages must be a list of objects with role and content, not {shown_value(turns)}")
    for turn in turns:
        content = turn.get("content")
        if not isinstance(content, str):
            raise DataError(f"{where}: {columns.text!r} must be text, not {shown_value(content)}; write it as a string")
        if turn.get("role") not in ROLES:
            raise DataError(f"{where}: role {turn.get('role')!r} is unknown; the roles are {', '.join(ROLES)}")
        _refuse_half_characters(content, where)
    if turns[-1]["role"] == "assistant":
        raise DataError(
            f"{where}: messages end with a turn of the assistant; they must end with the request; move the assistant's text to {columns.label!r}"
        )
    return tuple(Message(t["role"], t["content"]) for t in turns)


def _short(value: Any, name: str, where: str) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {name} must be text or a whole number, not {shown_value(value)}")
    _refuse_half_characters(str(value), where)
    return str(value).strip()


def _refuse_half_characters(text: str, where: str) -> None:
    """JSON can contain half of a surrogate pair, but such text cannot be hashed, tokenized or stored."""
    if _HALF_CHARACTER.search(text):
        raise DataError(
            f"{where}: {shown_value(text)} contains an incomplete Unicode character (a surrogate without its pair); export the row again"
        )


def _checked_label(label: str | None, text: str, data: DataParams, where: str) -> str | None:
    grammar = data.grammar
    if label is None:
        return label
    if grammar is None:
        if (stop := next((stop for stop in data.stops if stop in label), None)) is not None:
            raise DataError(
                f"{where}: label {shown_value(label)} contains the stop sequence {stop!r}, so no completion can match it; correct the row or data.stop"
            )
        return label
    try:
        record = grammar.parse(label)
        grammar.check_grounded(record, text)
    except DataError as error:
        raise DataError(f"{where}: label {shown_value(label)} is wrong: {error}; correct the row, or data.record in params.yaml") from None
    return grammar.write(record)


def _stem(path: str) -> str:
    hub = HUB_SOURCE.fullmatch(path)
    return Path(path).stem if hub is None else "-".join(filter(None, (Path(hub["name"]).name, hub["split"])))
