from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from redistill.data.traffic.shards import logged_ids, read_traffic, shards, write_shards
from redistill.data.traffic.snapshots import SnapshotState, check_snapshot, snapshot_prompts, write_snapshot
from redistill.data.traffic.types import LoggedRequest
from redistill.errors import DataError
from redistill.io.parquet import read_records, write_records
from tests.logged import logged

ROWS = [logged("why was I charged"), logged("where is my card", slice="mail", student="card", teacher="card_arrival")]


def test_equal_rows_are_one_file_whatever_their_order_time_and_completions(tmp_path: Path) -> None:
    file = write_snapshot(tmp_path, ROWS)
    again = write_snapshot(tmp_path, [logged("where is my card", 5.0, slice="mail", student="other"), logged("why was I charged", 9.0)])
    assert again == file and len(list(tmp_path.iterdir())) == 2
    assert write_snapshot(tmp_path, [*ROWS, logged("one more")]) != file
    assert write_snapshot(tmp_path, [logged("why was I charged", slice="phone"), ROWS[1]]) != file


def test_a_snapshot_holds_no_completion_of_any_model(tmp_path: Path) -> None:
    file = write_snapshot(tmp_path, ROWS)
    assert all(row.student is None and row.teacher is None for row in read_records(file, LoggedRequest))
    prompts = list(snapshot_prompts(file, "traffic:router"))
    assert {(p.text, p.slice, p.label, p.source) for p in prompts} == {
        ("why was I charged", "app", None, "traffic:router"),
        ("where is my card", "mail", None, "traffic:router"),
    }
    assert all(p.source_id == f"traffic:{p.id[:16]}" for p in prompts)


def test_a_forgotten_row_leaves_the_digest_as_it_is(tmp_path: Path) -> None:
    file = write_snapshot(tmp_path, ROWS)
    left = [row for row in read_records(file, LoggedRequest) if row.slice == "mail"]
    write_records(file, LoggedRequest, left)
    assert check_snapshot(file) == SnapshotState(forgotten=1)
    assert [p.text for p in snapshot_prompts(file, "traffic:router")] == ["where is my card"]
    # Where the log still has both rows, the snapshot is whole again.
    assert write_snapshot(tmp_path, ROWS) == file and check_snapshot(file) == SnapshotState()


def test_an_edited_snapshot_is_noticed(tmp_path: Path) -> None:
    file = write_snapshot(tmp_path, ROWS)
    write_records(file, LoggedRequest, [*read_records(file, LoggedRequest), logged("not chosen")])
    assert "holds a row that the snapshot was taken without" in check_snapshot(file).problem
    write_records(file, LoggedRequest, [logged("another text", prompt_id=ROWS[0].prompt_id)])
    with pytest.raises(DataError, match=r"^traffic:router: .* run `redistill lock`"):
        list(snapshot_prompts(file, "traffic:router"))
    file.write_bytes(b"half a fi")
    assert "damaged" in check_snapshot(file).problem
    file.with_suffix(".json").write_text("[]", encoding="utf-8")
    assert check_snapshot(tmp_path / "none.parquet").problem.endswith("is missing")


def test_shards_come_back_in_the_order_of_time(tmp_path: Path) -> None:
    rows = [logged(f"message {i}", float(i)) for i in (9, 10, 11, 100)]
    written = list(write_shards(tmp_path, rows, 2))
    assert written == shards(tmp_path) and [row.at for row in read_traffic(tmp_path)] == [9, 10, 11, 100]
    # The router may remove an old file between the listing and the reading.
    (tmp_path / "0-gone.parquet").symlink_to(tmp_path / "nowhere")
    assert [row.at for row in read_traffic(tmp_path, since=10)] == [10, 11, 100]
    (tmp_path / "0-gone.parquet").unlink()
    assert logged_ids(tmp_path) == {row.id for row in rows} and logged_ids(tmp_path / "none") == set()
    pq.write_table(pq.read_table(written[0]).drop_columns(["id"]), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet is no shard of traffic"):
        logged_ids(tmp_path)
