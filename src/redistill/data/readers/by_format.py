"""The reader that fits a source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redistill.data.readers.csv import csv_rows
from redistill.data.readers.files import source_file
from redistill.data.readers.hub import HUB_SOURCE, hub_rows
from redistill.data.readers.jsonl import jsonl_rows
from redistill.data.readers.parquet import parquet_rows
from redistill.errors import DataError


def raw_rows(path: str, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if HUB_SOURCE.fullmatch(path):
        return hub_rows(path, root)
    file = source_file(path, root)
    readers = {".jsonl": jsonl_rows, ".csv": csv_rows, ".parquet": parquet_rows}
    kind = Path(file.name.removesuffix(".gz")).suffix.lower()
    if (reader := readers.get(kind)) is None:
        raise DataError(f"{path}: unknown extension {kind!r}; redistill reads .jsonl, .csv, .parquet and hf:owner/name")
    if file.stat().st_size == 0:
        raise DataError(f"{path} is empty; give it at least one row, or remove it from data.source")
    return reader(path, file)
