"""Rows of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redistill.errors import DataError


def parquet_rows(path: str, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise DataError(f"{path}: column {twice[0]!r} is there {names.count(twice[0])} times; give each column its own name")
            for batch in table.iter_batches():
                for number, row in enumerate(batch.to_pylist(), number + 1):  # noqa: B020 - goes on counting
                    yield f"row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a complete Parquet file ({str(error).splitlines()[0]}); write it again") from None
