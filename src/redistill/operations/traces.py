"""Finds and removes what files hold of a prompt: rows with its id, and its text in pages and lists.

A kind of file is known by its first bytes, because objects of DVC's cache have no suffix. Weights and databases are no files of this kind.
"""

from __future__ import annotations

import html
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

REMOVED = "[forgotten]"
_SHORTEST = 16
"""A shorter text is not searched for: it is part of many others. Rows are found by their id in any case."""
_MOST_BYTES = 256 << 20
_GROUP = 20_000


@dataclass(frozen=True, slots=True)
class Traces:
    """Ids of prompts, and their texts."""

    ids: frozenset[str]
    texts: tuple[str, ...] = ()

    @property
    def spelled(self) -> tuple[str, ...]:
        """The texts as JSON, HTML and plain text have them, the longest first."""
        forms = {form for text in self.texts if len(text) >= _SHORTEST for form in _forms(text)}
        return tuple(sorted(forms, key=len, reverse=True))


def _forms(text: str) -> Iterator[str]:
    for plain in (text, " ".join(text.split())):
        as_json = (json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1])
        yield from (plain, *as_json)
        # The page's templates write quotes as numbers, Python's library by name.
        for escaped in (html.escape(plain), html.escape(plain, quote=False)):
            yield from (escaped, escaped.replace("&#x27;", "&#39;").replace("&quot;", "&#34;"))


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


def _cleaned(file: Path, traces: Traces) -> pa.Table | bytes | str | None:
    """The content without the prompts: of a file of records, a sealed one, or a text; None where it holds nothing of them."""
    if _starts_with(file, b"PAR1"):
        return _without_rows(file, traces)
    if is_sealed(file):
        tree = json.loads(unseal(file))
        kept = _without_entries(tree, traces.ids)
        inside = json.dumps(kept)
        safe = _without_texts(inside, traces)
        return None if kept == tree and safe == inside else safe.encode()
    text = _text_of(file)
    if text is None or not (any(form in text for form in traces.spelled) or any(each in text for each in traces.ids)):
        return None
    cleaned = _without_texts(_without_lines(text, traces.ids), traces)
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
    forms = traces.spelled
    mask = [not any(form in text for text in _strings(row) for form in forms) for row in table.to_pylist()] if forms else []
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


def _without_entries(value: Any, ids: frozenset[str]) -> Any:
    """A tree without the entries of lists that are about these prompts."""
    if isinstance(value, dict):
        return {key: _without_entries(each, ids) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_entries(each, ids) for each in value if not (isinstance(each, dict) and each.get("prompt_id") in ids)]
    return value


def _without_lines(text: str, ids: frozenset[str]) -> str:
    """JSON without entries about these prompts: of a whole file, or of its lines. Any other text stays."""
    if not any(each in text for each in ids):
        return text
    try:
        tree = json.loads(text)
        kept = _without_entries(tree, ids)
        return text if kept == tree else json.dumps(kept, indent=2, ensure_ascii=False) + "\n"
    except ValueError:
        return "".join(line for line in text.splitlines(keepends=True) if not _is_about(line, ids))


def _is_about(line: str, ids: frozenset[str]) -> bool:
    if not any(each in line for each in ids):
        return False
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and (row.get("prompt_id") in ids or row.get("id") in ids)


def _without_texts(text: str, traces: Traces) -> str:
    for form in traces.spelled:
        text = text.replace(form, REMOVED)
    return text


def _text_of(file: Path) -> str | None:
    """The text of a file; None if it is none."""
    try:
        if file.stat().st_size > _MOST_BYTES:
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
