"""Logged traffic: a folder of Parquet files, each written whole. The name of a file begins with the time of its first row, in ms, so names sort by time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from redistill.data.traffic.types import LoggedRequest
from redistill.errors import DataError
from redistill.io.digests import canonical_digest
from redistill.io.parquet import iter_records, write_records


def shards(folder: Path) -> list[Path]:
    """The files of a folder of traffic, oldest first; none if there is no folder."""
    return sorted(folder.glob("*.parquet"))


def read_traffic(folder: Path, since: float = 0.0) -> Iterator[LoggedRequest]:
    """The logged requests from ``since`` on (seconds since 1970), file by file.

    Raises:
        DataError: a file is not what the router or an import writes.
    """
    for file in shards(folder):
        try:
            for row in iter_records(file, LoggedRequest):
                if row.at >= since:
                    yield row
        except DataError:
            # The router removes old files at any time.
            if file.exists():
                raise


def write_shards(folder: Path, rows: Iterable[LoggedRequest], rows_each: int) -> Iterator[Path]:
    """Write rows as shards, each whole, a shard at a time. Names begin with the time of the first row, so that they sort by time."""
    ordered = iter(rows)
    while shard := sorted(itertools.islice(ordered, rows_each), key=lambda row: (row.at, row.id)):
        file = folder / f"{int(shard[0].at * 1000):013d}-{shard[0].source}-{canonical_digest([row.id for row in shard])[:12]}.parquet"
        write_records(file, LoggedRequest, shard)
        yield file


def logged_ids(folder: Path) -> set[str]:
    """The ids of all rows of a folder, without their texts.

    Raises:
        DataError: a file is no Parquet file, or has no ids.
    """
    ids = set[str]()
    for file in shards(folder):
        try:
            with pq.ParquetFile(file) as table:
                for batch in table.iter_batches(columns=["id"]):
                    ids.update(batch.column("id").to_pylist())
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DataError(f"{file} is no shard of traffic ({str(error).splitlines()[0]}); remove it from this folder") from None
    return ids
