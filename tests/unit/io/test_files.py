"""Files are written whole or not at all, and a file that is not what it should be is named, not guessed at."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redistill.data.types import Message, Prompt
from redistill.distillation.types import Span, TrainingRow
from redistill.errors import DataError
from redistill.io.atomic import is_refused_file, refused_file, replacing, replacing_directory
from redistill.io.digests import file_digest, tree_digest
from redistill.io.json import read_json, write_json
from redistill.io.parquet import SCHEMA_VERSION, read_records, write_records
from redistill.validation.types import DroppedRow

ROW = TrainingRow("a" * 64, 0, (5, 1, 2, 3), (Span("prompt", 0, 1), Span("completion", 1, 4)), "t" * 64, " fee", "gold")
FULL_DISK = """
    import resource, sys
    import numpy as np
    from redistill.io.json import write_json
    from redistill.io.parquet import write_records
    from redistill.errors import DataError
    from redistill.distillation.types import SignalKey, SoftTargets, TrainingRow
    from redistill.distillation.soft_targets.shards import write_soft_targets

    folder = sys.argv[1]
    noise = np.random.default_rng(0)
    rows = [TrainingRow(noise.bytes(32).hex(), i, (1, 2), (), "t", noise.bytes(200).hex(), "gold") for i in range(200)]
    top = np.log(noise.dirichlet(np.ones(31), 400)[:, :30])
    ids = np.argsort(noise.random((400, 50_000)))[:, :30]
    soft = SoftTargets(SignalKey("a", 0, "t"), "s", 1, ids, top, top[:, 0], -top[:, 1])
    writers = {
        "a.json": lambda path: write_json(path, [row.completion for row in rows]),
        "b.parquet": lambda path: write_records(path, TrainingRow, rows),
        "c": lambda path: write_soft_targets(path, [soft], "digest", 50_000),
    }
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # every write beyond 8 KB fails, as on a full disk
    for name, write in writers.items():
        try:
            write(f"{folder}/{name}")
        except DataError as error:
            assert f"could not write {folder}/{name}" in str(error) and "free some space" in str(error), error
        else:
            raise AssertionError(f"{name} was written")
    print("done")
"""


def test_full_disk_leaves_the_old_files_whole(tmp_path: Path) -> None:
    for name in ("a.json", "b.parquet", "c.parquet"):
        (tmp_path / name).write_text(f"the old {name}")
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "done\n", result.stderr
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {n: f"the old {n}" for n in ("a.json", "b.parquet", "c.parquet")}


def test_replacing_keeps_the_old_file_when_its_body_fails(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with replacing(target) as temporary:
        temporary.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"] and target.read_text() == "old"
    with pytest.raises(DataError, match="could not write"), replacing(target):
        pass
    assert target.read_text() == "old"


def test_directory_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with replacing_directory(target) as temporary:
        (temporary / "old").write_text("1")
    with pytest.raises(RuntimeError), replacing_directory(target) as temporary:
        (temporary / "new").write_text("2")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["old"] and [p.name for p in tmp_path.iterdir()] == ["model"]
    with replacing_directory(target) as temporary:
        (temporary / "new").write_text("2")
    assert [p.name for p in target.iterdir()] == ["new"] and [p.name for p in tmp_path.iterdir()] == ["model"]


def test_work_directory_survives_a_crash_and_is_found_again(tmp_path: Path) -> None:
    work, target = tmp_path / "work", tmp_path / "out"
    with pytest.raises(RuntimeError), replacing_directory(target, work) as temporary:
        (temporary / "step-1").write_text("done")
        raise RuntimeError
    assert (work / "step-1").is_file() and not target.exists()
    with replacing_directory(target, work) as temporary:
        assert (temporary / "step-1").is_file()
    assert (target / "step-1").is_file() and not work.exists()


def test_nothing_to_write_keeps_its_kind(tmp_path: Path) -> None:
    write_records(tmp_path / "rows.parquet", DroppedRow, [])
    assert read_records(tmp_path / "rows.parquet", DroppedRow) == []
    with pytest.raises(DataError, match="contains DroppedRow instead of Prompt"):
        read_records(tmp_path / "rows.parquet", Prompt)


@pytest.mark.parametrize("spoil", [lambda b: b"", lambda b: b"PK\x03\x04 not this", lambda b: b[: len(b) // 2], lambda b: b[:-1]])
def test_what_is_no_parquet_is_refused(tmp_path: Path, spoil) -> None:
    file = tmp_path / "rows.parquet"
    write_records(file, TrainingRow, [ROW])
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DataError, match="is not a Parquet file .*; remove it and run its stage again"):
        read_records(file, TrainingRow)


def test_damaged_page_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    write_records(file, TrainingRow, [ROW] * 50)
    content = bytearray(file.read_bytes())
    content[10:40] = b"\xff" * 30
    file.write_bytes(content)
    with pytest.raises(DataError):
        read_records(file, TrainingRow)


def test_other_schemas_and_strange_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    with pytest.raises(DataError, match="is missing; run the stage that writes it"):
        read_records(file, TrainingRow)
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(DataError, match="contains no redistill record instead of TrainingRow"):
        read_records(file, TrainingRow)
    write_records(file, TrainingRow, [ROW])
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"redistill.schema": b"0"}), file)
    with pytest.raises(DataError, match=rf"has schema 0, but this version of redistill reads {SCHEMA_VERSION}; run its stage again"):
        read_records(file, TrainingRow)
    pq.write_table(table.drop_columns(["spans"]), file)
    with pytest.raises(DataError, match="has the columns prompt_id .* this version of redistill reads .* spans .*; run its stage again"):
        read_records(file, TrainingRow)


def test_text_that_is_no_unicode_is_a_data_error() -> None:
    with pytest.raises(DataError):
        Prompt.of((Message("user", "thanks \ud83d"),), "1", "app", None, "rows.jsonl")


def test_json_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        read_json(tmp_path / "a.json")
    for content in (b"{", b"\xff\xfe", b""):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(DataError, match="is not valid JSON .*; remove it and run its stage again"):
            read_json(tmp_path / "a.json")
    with pytest.raises(TypeError, match="Path has no JSON form|PosixPath has no JSON form"):
        write_json(tmp_path / "b.json", {"path": tmp_path})
    assert not (tmp_path / "b.json").exists() and len(list(tmp_path.iterdir())) == 1


def test_digests_answer_to_names_and_contents_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "b.txt").write_text("b")
        (tmp_path / name / "deep" / "a.txt").write_text("a")
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two")
    (tmp_path / "two" / "b.txt").rename(tmp_path / "two" / "c.txt")
    assert tree_digest(tmp_path / "one") != tree_digest(tmp_path / "two")
    assert tree_digest(tmp_path / "one" / "b.txt") == file_digest(tmp_path / "one" / "b.txt")
    assert file_digest(tmp_path / "one" / "b.txt") == "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a"), "could not write .*/a: No space left on device; free some space"),
        (
            PermissionError(errno.EACCES, "Permission denied", ".redistill"),
            r"no access to .*/\.redistill: Permission denied; give the user with id \d+ access",
        ),
    ],
)
def test_what_a_disk_refuses_is_one_line(error: OSError, line: str) -> None:
    assert is_refused_file(error) and re.match(line, refused_file(error))


def test_a_port_that_is_refused_is_no_file() -> None:
    assert not is_refused_file(PermissionError(errno.EACCES, "Permission denied"))
