"""Finds and removes what files hold of a prompt: rows with its id, and values that are its text.

A kind of file is known by its first bytes, because objects of DVC's cache have no suffix. Weights and databases are no files of this kind. Settings, locks,
verdicts and code are never changed: what they hold was written by a person or decides what is live.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redistill.io.atomic import replacing
from redistill.io.sealed import is_sealed, seal, unseal
from redistill.operations.traces_in_text import normalised, without, without_entries

SHORTEST = 16
"""A shorter text is not searched for: it may be a label, a name or a setting. Rows are found by their id in any case."""
MOST_BYTES = 256 << 20
"""Larger files of text are not read; ``too_large`` names them."""
_GROUP = 20_000
_NEVER = ("dvc.lock", "judgement.json", "calibration.json", "flags.json")
_NEVER_ENDS = (".lock.json", ".yaml", ".yml", ".toml", ".py", ".j2", ".sh", ".css", ".js")


@dataclass(frozen=True, slots=True)
class Traces:
    """Ids of prompts, and texts that no other prompt has."""

    ids: frozenset[str]
    texts: tuple[str, ...] = ()

    @property
    def searched(self) -> frozenset[str]:
        """The texts as they are compared with values: normalised, without short ones."""
        return frozenset(form for form in map(normalised, self.texts) if len(form) >= SHORTEST)


def ids_in(file: Path) -> frozenset[str]:
    """The ids of the prompts that a file of records is about; none for other files."""
    try:
        parquet = pq.ParquetFile(file) if _starts_with(file, b"PAR1") else None
    except (pa.ArrowInvalid, OSError):
        return frozenset()
    if parquet is None:
        return frozenset()
    with parquet:
        column = _id_column(parquet)
        return frozenset() if column is None else frozenset(filter(None, parquet.read([column])[column].to_pylist()))


def holds(file: Path, traces: Traces) -> bool:
    """Whether a file holds something of these prompts."""
    return _cleaned(file, traces) is not None


def remove(file: Path, traces: Traces) -> bool:
    """Remove it, and say whether there was any. What stays of the file is as it was.

    Raises:
        DataError: the disk refuses the write; the file is unchanged.
    """
    content = _cleaned(file, traces)
    if content is None:
        return False
    mode = file.stat().st_mode & 0o777
    if isinstance(content, pa.Table):
        with replacing(file) as temporary:
            pq.write_table(content, temporary, compression="zstd", row_group_size=_GROUP)
            temporary.chmod(mode)
    elif isinstance(content, bytes):
        seal(file, content)
    else:
        with replacing(file) as temporary:
            temporary.write_bytes(content.encode("utf-8"))
            temporary.chmod(mode)
    return True


def too_large(file: Path) -> bool:
    """Whether a file may hold something of a prompt, but is too large to be read: text over ``MOST_BYTES``."""
    try:
        if file.stat().st_size <= MOST_BYTES or _is_never_changed(file):
            return False
        with open(file, "rb") as handle:
            begin = handle.read(8192)
    except OSError:
        return False
    return not begin.startswith(b"PAR1") and b"\0" not in begin and not is_sealed(file)


def _is_never_changed(file: Path) -> bool:
    return file.name in _NEVER or file.name.endswith(_NEVER_ENDS)


def _cleaned(file: Path, traces: Traces) -> pa.Table | bytes | str | None:
    """The content without the prompts: of a file of records, a sealed one, or a text; None where it holds nothing of them."""
    if _is_never_changed(file):
        return None
    if _starts_with(file, b"PAR1"):
        return _without_rows(file, traces)
    if is_sealed(file):
        tree = json.loads(unseal(file))
        kept = without_entries(tree, traces.ids, traces.searched)
        return None if kept == tree else json.dumps(kept).encode()
    text = _text_of(file)
    cleaned = None if text is None else without(text, traces.ids, traces.searched)
    return None if cleaned == text else cleaned


def _without_rows(file: Path, traces: Traces) -> pa.Table | None:
    try:
        with pq.ParquetFile(file) as parquet:
            column = _id_column(parquet)
            if column is not None:
                held = pc.is_in(parquet.read([column])[column], pa.array(sorted(traces.ids), pa.string()))
                return parquet.read().filter(pc.invert(held)) if pc.any(held).as_py() else None
            # Pairs of texts have no ids.
            table = parquet.read()
    except (pa.ArrowInvalid, OSError):
        return None
    values = traces.searched | traces.ids
    mask = [not any(text in values or normalised(text) in values for text in _strings(row)) for row in table.to_pylist()]
    return None if all(mask) else table.filter(pa.array(mask))


def _id_column(parquet: pq.ParquetFile) -> str | None:
    names = parquet.schema_arrow.names
    if "prompt_id" in names:
        return "prompt_id"
    record = (parquet.schema_arrow.metadata or {}).get(b"redistill.record", b"")
    return "id" if record == b"Prompt" and "id" in names else None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _text_of(file: Path) -> str | None:
    """The text of a file; None if it is none."""
    try:
        if file.stat().st_size > MOST_BYTES:
            return None
        with open(file, "rb") as handle:
            if b"\0" in (begin := handle.read(8192)):
                return None
            return (begin + handle.read()).decode("utf-8")
    except (UnicodeDecodeError, OSError):
        return None


def _starts_with(file: Path, magic: bytes) -> bool:
    try:
        with open(file, "rb") as handle:
            return handle.read(len(magic)) == magic
    except OSError:
        return False
