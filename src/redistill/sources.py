"""From a user's files to prompts in five splits.

A source is a JSONL, CSV or Parquet file, or a hub data set (``hf:owner/name[@revision][:split]``, or ``hf:/directory`` in
hub layout). Its rows hold ``text`` (or ``messages``) and may hold ``label``, ``id`` and ``slice``. Which split a row falls
into is a hash of what it says, so no row moves when sources grow, and equal requests never part.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from redistill.artifacts import file_digest, tree_digest
from redistill.config import ColumnParams, DataParams, SourceParams
from redistill.errors import DataError
from redistill.records import SPLITS, Message, Prompt, canonical_digest

UNLABELLED = ("pool", "calibration")
ROLES = ("system", "user", "assistant", "tool")
DEFAULT_SLICE = "all"
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_HUB = re.compile(r"hf:(?P<name>[./][^:]*|[^@:]+)(?:@(?P<revision>[^:]+))?(?::(?P<split>.+))?")


def load(data: DataParams, root: Path) -> dict[str, list[Prompt]]:
    """All sources as prompts by split, in the order in which they stand; relative paths start at ``root``.

    Rows hashed into pool or calibration lose their label: what is asked of the teacher counts as unlabelled. Equal requests
    all stay; intake drops the later ones and says so.

    Raises:
        DataError: a source or a row is not what it must be; one line with file, line, value and what to do.
    """
    splits: dict[str, list[Prompt]] = {name: [] for name in SPLITS}
    places: dict[str, str] = {}
    for source in data.source:
        rows = [_prompt(where, row, source, places) for where, row in read_source(source, data.columns, data, root)]
        for where, prompt in _subset(rows, data.max_rows):
            split = split_of(prompt.id, source.splits)
            if split in UNLABELLED:
                splits[split].append(Prompt.of(prompt.messages, prompt.source_id, prompt.slice, None, prompt.source, prompt.planted))
            elif split and prompt.label is None:
                raise DataError(
                    f"{where}: a row without {data.columns.label!r} falls into split {split}, which needs labels; label it, or list unlabelled "
                    "rows as a source of their own with splits pool and calibration only"
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
        hub = _HUB.fullmatch(source.path)
        revision = None
        if hub is None:
            digest = file_digest(source_file(source.path, root))
        elif hub["name"][0] in "./":
            digest = tree_digest(_directory(source.path, hub["name"], root))
        else:
            # The builder's base path names the commit that the revision stood for when it was read.
            revision = next(iter(re.findall(r"@([0-9a-f]{40})", str(_builder(source.path, root).base_path))), hub["revision"])
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
    # Shares that sum to one but for a rounding error leave nobody out.
    return last if edge > 1 - 1e-9 else None


def read_source(source: SourceParams, columns: ColumnParams, data: DataParams, root: Path = Path()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its place ("file, line N"), as ``messages``, ``label``, ``id``, ``slice`` and ``planted``, checked.

    Raises:
        DataError: see ``load``.
    """
    count = 0
    for number, values in _raw_rows(source.path, root):
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
        raise DataError(f"{source.path} holds no rows; give it at least one, or take it out of data.source")


def _prompt(where: str, row: dict[str, Any], source: SourceParams, places: dict[str, str]) -> tuple[str, Prompt]:
    first = places.setdefault(row["id"], where)
    if first != where:
        raise DataError(f"{where}: id {row['id']!r} already stands in {first}; ids must be unique over all sources, give this row another")
    return where, Prompt.of(row["messages"], row["id"], row["slice"], row["label"], source.path, row["planted"])


def _subset(rows: list[tuple[str, Prompt]], limit: int | None) -> list[tuple[str, Prompt]]:
    if limit is None or len(rows) <= limit:
        return rows
    # Another hash than the one that splits: the smallest of that one would all fall into the first split.
    order = sorted(range(len(rows)), key=lambda i: (hashlib.sha256(f"max_rows {rows[i][1].id}".encode()).digest(), i))
    return [rows[i] for i in sorted(order[:limit])]


def _messages(values: dict[str, Any], columns: ColumnParams, where: str) -> tuple[Message, ...]:
    if (text := values.get(columns.text)) is not None:
        turns: Any = [{"role": "user", "content": text}]
    elif (turns := values.get("messages")) is None:
        has = ", ".join(sorted(str(k) for k in values)) or "nothing"
        raise DataError(f"{where}: no {columns.text!r} and no 'messages' (the row has {has}); name the column in data.columns.text")
    if not isinstance(turns, list) or not turns or not all(isinstance(t, dict) for t in turns):
        raise DataError(f"{where}: messages must be a list of objects with role and content, not {_shown(turns)}")
    for turn in turns:
        content = turn.get("content")
        if not isinstance(content, str):
            raise DataError(f"{where}: {columns.text!r} must be text, not {_shown(content)}; write it as a string")
        if turn.get("role") not in ROLES:
            raise DataError(f"{where}: role {turn.get('role')!r} is unknown; the roles are {', '.join(ROLES)}")
        _refuse_half_characters(content, where)
    if turns[-1]["role"] == "assistant":
        raise DataError(f"{where}: messages end with the assistant's turn; end with the request and move the answer to {columns.label!r}")
    return tuple(Message(t["role"], t["content"]) for t in turns)


def _short(value: Any, name: str, where: str) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {name} must be text or a whole number, not {_shown(value)}")
    _refuse_half_characters(str(value), where)
    return str(value).strip()


def _refuse_half_characters(text: str, where: str) -> None:
    """JSON can spell half a surrogate pair; nothing that hashes, tokenizes or stores text can."""
    if _HALF_CHARACTER.search(text):
        raise DataError(f"{where}: {_shown(text)} holds half a surrogate pair, which is no character; write the row anew from its source")


def _checked_label(label: str | None, text: str, data: DataParams, where: str) -> str | None:
    grammar = data.grammar
    if label is None:
        return label
    if grammar is None:
        if (stop := next((stop for stop in data.stops if stop in label), None)) is not None:
            raise DataError(
                f"{where}: label {_shown(label)} holds {stop!r}, at which every completion ends, so nothing can match it; correct the row or data.stop"
            )
        return label
    try:
        record = grammar.parse(label)
        grammar.check_grounded(record, text)
    except DataError as error:
        raise DataError(f"{where}: label {_shown(label)} is wrong: {error}; correct the row, or data.record in params.yaml") from None
    return grammar.write(record)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _stem(path: str) -> str:
    hub = _HUB.fullmatch(path)
    return Path(path).stem if hub is None else "-".join(filter(None, (Path(hub["name"]).name, hub["split"])))


def source_file(path: str, root: Path, key: str = "data.source") -> Path:
    """A file that ``params.yaml`` names at ``key``.

    Raises:
        DataError: it is missing, or a directory.
    """
    file = root / path
    if not file.is_file():
        raise DataError(
            f"{path} is {'a directory, not a file' if file.is_dir() else 'missing'}; correct {key} in params.yaml ({file.resolve()})"
        )
    return file


def _directory(path: str, name: str, root: Path) -> Path:
    if not (root / name).is_dir():
        raise DataError(f"{path}: no directory {(root / name).resolve()}; correct data.source in params.yaml")
    return root / name


def _raw_rows(path: str, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if _HUB.fullmatch(path):
        return _hub_rows(path, root)
    file = source_file(path, root)
    readers = {".jsonl": jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    if (reader := readers.get(file.suffix.lower())) is None:
        raise DataError(f"{path}: unknown extension {file.suffix!r}; redistill reads .jsonl, .csv, .parquet and hf:owner/name")
    if file.stat().st_size == 0:
        raise DataError(f"{path} is empty; give it at least one row, or take it out of data.source")
    return reader(path, file)


def _decoded(path: str, line: int, start: int, raw: bytes) -> str:
    try:
        text = raw.decode()
        return text.removeprefix("\ufeff") if start == 0 else text
    except UnicodeDecodeError as error:
        line += raw[: error.start].count(b"\n")
        raise DataError(
            f"{path}, line {line}: byte {start + error.start} is not UTF-8; save the file as UTF-8 text and try again"
        ) from None


def jsonl_rows(path: str, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSONL file with their place ("line N"); ``path`` is what errors call it.

    Raises:
        DataError: no UTF-8, broken JSON, or a line that is no object.
    """
    start = 0
    with open(file, "rb") as handle:
        for number, raw in enumerate(handle, 1):
            line = _decoded(path, number, start, raw)
            start += len(raw)
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: broken JSON ({error}); write one whole object a line") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: {_shown(row)} is no object; write one object a line")
            yield f"line {number}", row


def _csv_rows(path: str, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    text = _decoded(path, 1, 0, file.read_bytes())
    limit, line = csv.field_size_limit(sys.maxsize), 1
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        line = reader.line_num + 1
        for fields in reader:
            if len(fields) > len(header):
                raise DataError(
                    f"{path}, line {line}: {len(fields)} fields, but the header has {len(header)}; put text with commas in quotes"
                )
            if fields:
                yield f"line {line}", dict(zip(header, fields, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: broken CSV ({error}); close every quote, and double quotes within text") from None
    finally:
        csv.field_size_limit(limit)


def _parquet_rows(path: str, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches():
                for number, row in enumerate(batch.to_pylist(), number + 1):  # noqa: B020 - goes on counting
                    yield f"row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file ({str(error).splitlines()[0]}); write it again") from None


def _builder(path: str, root: Path) -> Any:
    import datasets

    hub = _HUB.fullmatch(path)
    assert hub is not None
    name = str(_directory(path, hub["name"], root).resolve()) if hub["name"][0] in "./" else hub["name"]
    try:
        return datasets.load_dataset_builder(name, revision=hub["revision"])
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [""])[0]
    return DataError(
        f"{path}: the datasets library cannot read it ({type(error).__name__}: {reason}); check id, revision, split and network"
    )


def _hub_rows(path: str, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    builder = _builder(path, root)
    hub = _HUB.fullmatch(path)
    split = (hub and hub["split"]) or "train"
    try:
        # Streamed: nothing is written to a cache outside the project.
        rows = builder.as_streaming_dataset(split=split)
        names = {key: f for key, f in (rows.features or {}).items() if isinstance(f, datasets.ClassLabel)}
        for number, row in enumerate(rows, 1):
            # A hub label is a number; what it stands for is in the features. −1 is the hub's "no label".
            named = {key: f.int2str(row[key]) if row[key] is not None and row[key] >= 0 else None for key, f in names.items()}
            yield f"row {number}", {**row, **named}
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise _unreadable(path, error) from None
