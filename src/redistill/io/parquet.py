"""Records as Parquet: the schema of a record is read from its annotations.

A reader that meets another schema version, or a file that is not Parquet, says so instead of guessing.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Union

import pyarrow as pa
import pyarrow.parquet as pq

from redistill.errors import DataError
from redistill.io.atomic import replacing

SCHEMA_VERSION = 3
"""Raised when a file written by an older redistill can no longer be read; every stage depends on it."""

_ROW_GROUP = 20_000
_BATCH = 2_000
"""Rows that are Python objects at the same time besides the records: as mappings they take several times as much."""

_INTS: dict[int, int] = {}
_PLAIN: dict[Any, pa.DataType] = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}


def write_records(path: str | os.PathLike[str], kind: type, rows: Iterable[Any]) -> None:
    """Write one kind of record as Parquet, a group of rows at a time; no rows keep their schema."""
    schema = schema_of(kind).with_metadata({"redistill.schema": str(SCHEMA_VERSION), "redistill.record": kind.__name__})
    values = map(_to_parquet(kind), rows)
    groups = iter(lambda: list(itertools.islice(values, _ROW_GROUP)), [])
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for group in itertools.chain([next(groups, [])], groups):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def read_records(path: str | os.PathLike[str], kind: type) -> list[Any]:
    """Read what ``write_records`` wrote.

    Raises:
        DataError: missing, not Parquet, another record, other columns, or another schema version.
    """
    return list(iter_records(path, kind))


def iter_records(path: str | os.PathLike[str], kind: type) -> Iterator[Any]:
    """As ``read_records``, one record after the other: for files of which only a part is kept.

    Raises:
        DataError: see ``read_records``; a damaged part of the file shows when it is reached.
    """
    as_record = _from_parquet(kind)
    try:
        with pq.ParquetFile(path) as file:
            _check_schema(path, file.schema_arrow, kind)
            for batch in file.iter_batches(_BATCH):
                yield from map(as_record, batch.to_pylist())
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run the stage that writes it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a Parquet file ({str(error).splitlines()[0]}); remove it and run its stage again") from None


@functools.cache
def schema_of(kind: type) -> pa.Schema:
    """Text, whole numbers of 32 bits, floats of 64, booleans; tuples are lists, and records within records are structs. Every field may be null in the file."""
    return pa.schema(_fields(kind))


def _fields(kind: type) -> list[tuple[str, pa.DataType]]:
    hints = typing.get_type_hints(kind)
    return [(f.name, _type_of(hints[f.name])) for f in dataclasses.fields(kind)]


def _type_of(hint: Any) -> pa.DataType:
    hint = _without_none(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if typing.get_origin(hint) is Literal:
        return _PLAIN[type(typing.get_args(hint)[0])]
    if typing.get_origin(hint) is tuple:
        return pa.list_(_type_of(typing.get_args(hint)[0]))
    if dataclasses.is_dataclass(hint):
        return pa.struct(_fields(typing.cast(type, hint)))
    raise TypeError(f"{hint} has no Parquet type")


@functools.cache
def _from_parquet(hint: Any) -> Callable[[Any], Any]:
    """What turns a value of the file, made of lists and mappings, back into what the annotation says."""
    hint = _without_none(hint)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        convert = _same_int if inner is int else _from_parquet(inner)
        return lambda values: tuple(map(convert, values))
    if not dataclasses.is_dataclass(hint):
        return lambda value: value
    kind, hints = typing.cast(type, hint), typing.get_type_hints(hint)
    nested = {f.name: _from_parquet(hints[f.name]) for f in dataclasses.fields(kind) if _is_nested(hints[f.name])}

    def record(row: dict[str, Any]) -> Any:
        for name, convert in nested.items():
            if row.get(name) is not None:
                row[name] = convert(row[name])
        return kind(**row)

    return record


def _same_int(value: int) -> int:
    """One object for each number: a million rows have many token ids, but each of them is one of a vocabulary."""
    return _INTS.setdefault(value, value)


def _listed(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: [convert(value) for value in values]


@functools.cache
def _to_parquet(hint: Any) -> Callable[[Any], Any]:
    """What turns a value into lists and mappings. ``dataclasses.asdict`` does the same, and copies every number of every row."""
    hint = _without_none(hint)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return _listed(_to_parquet(inner)) if _is_nested(inner) else lambda values: values
    if not dataclasses.is_dataclass(hint):
        return lambda value: value
    names, hints = [f.name for f in dataclasses.fields(hint)], typing.get_type_hints(hint)
    nested = {name: _to_parquet(hints[name]) for name in names if _is_nested(hints[name])}

    def values(record: Any) -> dict[str, Any]:
        row = {name: getattr(record, name) for name in names}
        for name, convert in nested.items():
            if row[name] is not None:
                row[name] = convert(row[name])
        return row

    return values


def _is_nested(hint: Any) -> bool:
    return typing.get_origin(_without_none(hint)) is tuple or dataclasses.is_dataclass(_without_none(hint))


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (Union, types.UnionType):
        return next(h for h in typing.get_args(hint) if h is not type(None))
    return hint


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _check_schema(path: str | os.PathLike[str], schema: pa.Schema, kind: type) -> None:
    metadata = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    if metadata.get("redistill.record") != kind.__name__:
        raise DataError(
            f"{path} contains {metadata.get('redistill.record', 'no redistill record')} instead of {kind.__name__}; remove it and run its stage again"
        )
    if metadata.get("redistill.schema") != str(SCHEMA_VERSION):
        raise DataError(
            f"{path} has schema {metadata.get('redistill.schema')}, but this version of redistill reads {SCHEMA_VERSION}; run its stage again"
        )
    columns = schema_of(kind)
    # A column of a later version, which earlier files do not have: the record's own default stands for it.
    later = [f.name for f in dataclasses.fields(kind) if f.name not in schema.names and f.default is not dataclasses.MISSING]
    if not schema.remove_metadata().equals(pa.schema([column for column in columns if column.name not in later])):
        raise DataError(
            f"{path} has the columns {_columns(schema)}, but this version of redistill reads {_columns(schema_of(kind))}; run its stage again"
        )
