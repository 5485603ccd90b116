"""Old traffic is removed, young traffic stays."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from redistill.data.traffic.shards import shards
from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Message
from redistill.io.parquet import write_records
from redistill.serving.traffic.retention import remove_old

DAY_S = 86400.0
ROW = LoggedRequest(
    "r", 0.0, "p", (Message("user", "text"),), (), "", "teacher", "teacher", "mode", "1", None, None, "fee", 0, "router", "c", "l"
)


def shard(folder: Path, *days_ago: float) -> Path:
    times = [time.time() - DAY_S * days for days in days_ago]
    file = folder / f"{int(times[0] * 1000):013d}-{len(list(folder.iterdir())):08x}.parquet"
    write_records(file, LoggedRequest, [replace(ROW, at=at) for at in times])
    return file


def test_a_file_goes_when_its_newest_row_is_too_old(tmp_path: Path) -> None:
    old, mixed, young = shard(tmp_path, 9, 8.5), shard(tmp_path, 9, 3), shard(tmp_path, 1)
    assert remove_old(tmp_path, 8) == 1 and shards(tmp_path) == [mixed, young] and not old.exists()
    assert remove_old(tmp_path, 2) == 1 and shards(tmp_path) == [young]


def test_a_damaged_file_goes_by_its_own_time_and_what_was_half_written_goes_after_an_hour(tmp_path: Path) -> None:
    damaged, half, fresh = tmp_path / "1-x.parquet", tmp_path / ".1-y.parquet.77.tmp", tmp_path / ".2-z.parquet.78.tmp"
    for file in (damaged, half, fresh):
        file.write_bytes(b"PAR1 no")
    os.utime(half, (time.time() - 7200,) * 2)
    assert remove_old(tmp_path, 1) == 0 and damaged.exists() and fresh.exists() and not half.exists()
    os.utime(damaged, (time.time() - 2 * DAY_S,) * 2)
    assert remove_old(tmp_path, 1) == 1 and not damaged.exists()


def test_no_folder_is_no_traffic(tmp_path: Path) -> None:
    assert remove_old(tmp_path / "none", 1) == 0
