"""Records ↔ files: one schema each, written whole or not at all.

Every write goes to a temporary name beside its place, is flushed to the disk, and is renamed. A reader that meets another
schema version, or a file that is no Parquet, says so instead of guessing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from redistill.errors import DataError
from redistill.records import SCHEMA_VERSION, DroppedRow, Message, Outcome, Prompt, TeacherCompletion, TrainingRow

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

_SCHEMAS: dict[type, pa.Schema] = {
    Prompt: pa.schema(
        [
            ("id", pa.string()),
            ("source_id", pa.string()),
            ("messages", pa.list_(_MESSAGE)),
            ("slice", pa.string()),
            ("label", pa.string()),
            ("source", pa.string()),
            ("planted", pa.string()),
        ]
    ),
    TeacherCompletion: pa.schema(
        [
            ("prompt_id", pa.string()),
            ("sample_index", pa.int32()),
            ("text", pa.string()),
            ("reasoning", pa.string()),
            ("token_ids", pa.list_(pa.int32())),
            ("finish_reason", pa.string()),
            ("teacher", pa.string()),
            ("mean_logprob", pa.float32()),
        ]
    ),
    DroppedRow: pa.schema([(f.name, pa.string()) for f in dataclasses.fields(DroppedRow)]),
    TrainingRow: pa.schema(
        [
            ("prompt_id", pa.string()),
            ("sample_index", pa.int32()),
            ("prompt", pa.string()),
            ("completion", pa.string()),
            ("completion_ids", pa.list_(pa.int32())),
            ("origin", pa.string()),
            ("teacher", pa.string()),
            ("slice", pa.string()),
        ]
    ),
    Outcome: pa.schema(
        [
            ("prompt_id", pa.string()),
            ("doc_hash", pa.string()),
            ("prompt_hash", pa.string()),
            ("slice", pa.string()),
            ("target", pa.string()),
            ("response", pa.string()),
            ("exact", pa.bool_()),
            ("true_positives", pa.int32()),
            ("false_positives", pa.int32()),
            ("false_negatives", pa.int32()),
            ("confidence", pa.float64()),
        ]
    ),
}


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path; on success flushes it and renames it over ``path``, otherwise removes it.

    Raises:
        DataError: the disk is full or refuses; the old file, if there was one, still stands.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise DataError(
            f"could not write {target}: {error.strerror or error}; free some space or mend its rights, then run again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_disk_error(error: Exception) -> bool:
    """True for a failed write: safetensors and torch tell of a full disk with errors of their own, which are no OSError."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or "PytorchStreamWriter" in str(error)


@contextlib.contextmanager
def replacing_directory(path: str | os.PathLike[str], work: Path | None = None) -> Iterator[Path]:
    """Like ``replacing`` for a whole directory. ``work``, when given, survives a crash so that a resume finds it."""
    target = Path(path)
    temporary = work or target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except Exception as error:
        if not is_disk_error(error):
            raise
        raise DataError(
            f"could not write {target}: {getattr(error, 'strerror', None) or error}; free some space or mend its rights, then run again"
        ) from error
    finally:
        if work is None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; the stage that writes it has not run") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON ({error}); remove it and run again") from None


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_records(path: str | os.PathLike[str], kind: type, rows: Iterable[Any]) -> None:
    """Write one kind of record as Parquet; an empty list keeps its schema."""
    schema = _SCHEMAS[kind].with_metadata({"redistill.schema": str(SCHEMA_VERSION), "redistill.record": kind.__name__})
    table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_records(path: str | os.PathLike[str], kind: type) -> list[Any]:
    """Read what ``write_records`` wrote.

    Raises:
        DataError: missing, not Parquet, another record, or another schema version.
    """
    table = _read_table(path, kind.__name__)
    rows = table.to_pylist()
    if kind is Prompt:
        for row in rows:
            row["messages"] = tuple(Message(**m) for m in row["messages"])
    for row in rows:
        for name in ("token_ids", "completion_ids"):
            if name in row:
                row[name] = tuple(row[name])
    return [kind(**row) for row in rows]


def _read_table(path: str | os.PathLike[str], record: str) -> pa.Table:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; the stage that writes it has not run") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a Parquet file ({str(error).splitlines()[0]}); remove it and run again") from None
    found = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    if found.get("redistill.record") != record:
        raise DataError(f"{path} holds {found.get('redistill.record', 'no redistill record')}, expected {record}")
    if found.get("redistill.schema") != str(SCHEMA_VERSION):
        raise DataError(f"{path} has schema {found.get('redistill.schema')}, this redistill reads {SCHEMA_VERSION}; run its stage again")
    return table


def file_digest(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def tree_digest(path: str | os.PathLike[str]) -> str:
    """Sha256 over relative names and contents of a file or directory; the same on every machine."""
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root} is missing; the stage that writes it has not run")
    if root.is_file():
        return file_digest(root)
    digest = hashlib.sha256()
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()
