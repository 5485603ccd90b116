"""One flag for all clones: no change is lost between two writers, a cycle with an old token writes nothing, and what is served is the newest one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.errors import ConfigError, DataError, StageError
from redistill.io.lease import Lease
from redistill.io.present_lease import holding
from redistill.io.shared_store import SharedStore, open_store
from redistill.serving.route_flag import (
    FLAG,
    flag_file,
    read_route,
    refresh_route,
    to_version,
    update_route,
    with_pin,
    with_share,
    with_teacher_slices,
)
from redistill.serving.shared_flag import SERVED, metadata
from redistill.serving.types import Route

ROOT = Path(__file__).resolve().parents[3]
FLAGS = Path("artifacts/route/flags.json")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedStore:
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("REDISTILL_SHARED_STORE", (tmp_path / "shared").as_uri())
    enter(tmp_path / "a", monkeypatch)
    return open_store((tmp_path / "shared" / "tiny").as_uri())


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text("data: {name: tiny}\n", encoding="utf-8")
    monkeypatch.chdir(folder)


def student(now: Route) -> Route:
    return to_version(now, "7", None, "version 7 was promoted")


def test_what_one_clone_writes_another_reads(store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update_route(FLAGS, student)
    enter(tmp_path / "b", monkeypatch)
    assert not FLAGS.exists()
    pinned = update_route(FLAGS, lambda now: with_pin(now, "teacher", "an incident"))
    assert (pinned.mode, pinned.model_version, pinned.pin) == ("student", "7", "teacher")
    enter(tmp_path / "a", monkeypatch)
    assert read_route(FLAGS).pin == "none"
    refresh_route(FLAGS)
    assert read_route(FLAGS) == pinned and store.read(SERVED) == FLAGS.read_bytes()
    assert metadata(FLAGS.read_bytes(), FLAG) == {"revision": 2}
    update_route(FLAGS, lambda now: now)
    assert store.names("route/revisions") == ["000000000001.json", "000000000002.json"], "what changes nothing writes nothing"


WRITER = """
    import sys
    from pathlib import Path
    from redistill.serving.route_flag import update_route, with_teacher_slices

    for n in range(20):
        name = f"{sys.argv[1]}{n:02d}"
        update_route(Path("artifacts/route/flags.json"), lambda now: with_teacher_slices(now, [*now.teacher_slices, name], "test"))
"""


def test_two_writers_at_once_lose_nothing(store: SharedStore, tmp_path: Path) -> None:
    processes = []
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "params.yaml").write_text("data: {name: tiny}\n", encoding="utf-8")
        processes.append(
            subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), name], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)})
        )
    assert [process.wait(120) for process in processes] == [0, 0]
    refresh_route(FLAGS)
    assert len(read_route(FLAGS).teacher_slices) == 40
    assert store.read(SERVED) == FLAGS.read_bytes() and metadata(FLAGS.read_bytes(), FLAG)["revision"] == 40


def test_a_cycle_with_an_old_token_writes_nothing(store: SharedStore) -> None:
    lease = Lease(store, "lease", 60.0)
    old = lease.wait(lambda seen: seen.ended)
    assert old is not None
    with holding(old):
        update_route(FLAGS, student)
        assert metadata(FLAGS.read_bytes(), FLAG)["token"] == 1
    old.release()
    new = lease.wait(lambda seen: seen.ended)
    assert new is not None
    with holding(old), pytest.raises(StageError, match="lost its lease .token 1"):
        update_route(FLAGS, lambda now: with_pin(now, "teacher", "late"))
    with holding(new):
        update_route(FLAGS, lambda now: with_share(now, 50.0, "test"))
    refresh_route(FLAGS)
    assert read_route(FLAGS).pin == "none" and metadata(FLAGS.read_bytes(), FLAG) == {"revision": 2, "token": 2}
    # A person has no token, and keeps that of the cycle.
    update_route(FLAGS, lambda now: with_pin(now, "teacher", "an incident"))
    assert metadata(FLAGS.read_bytes(), FLAG) == {"revision": 3, "token": 2}


def test_a_token_in_the_flag_that_is_newer_than_the_lease_is_refused(store: SharedStore) -> None:
    """The lease's folder was emptied by hand, so its tokens begin again."""
    update_route(FLAGS, student)
    tree = json.loads(FLAGS.read_text(encoding="utf-8"))
    tree["flags"][FLAG]["metadata"] |= {"revision": 2, "token": 9}
    store.create("route/revisions/000000000002.json", json.dumps(tree).encode())
    held = Lease(store, "lease", 60.0).wait(lambda seen: seen.ended)
    assert held is not None
    with holding(held), pytest.raises(StageError, match="written by a cycle with token 9, and this cycle has token 1"):
        update_route(FLAGS, lambda now: with_pin(now, "teacher", "late"))


def test_what_a_killed_writer_left_is_served_by_the_next_reader(store: SharedStore) -> None:
    update_route(FLAGS, student)
    tree = flag_file(replace(read_route(FLAGS), pin="teacher", reason="an incident"))
    tree["flags"][FLAG]["metadata"]["revision"] = 2
    # It got its number, and was killed before it wrote what is served.
    store.create("route/revisions/000000000002.json", json.dumps(tree).encode())
    assert b"an incident" not in (store.read(SERVED) or b"")
    refresh_route(FLAGS)
    assert read_route(FLAGS).pin == "teacher" and b"an incident" in (store.read(SERVED) or b"")


def test_old_revisions_go(store: SharedStore) -> None:
    for n in range(110):
        update_route(FLAGS, lambda now, n=n: with_teacher_slices(now, [f"s{n}"], "test"))  # type: ignore[misc]
    names = store.names("route/revisions")
    assert len(names) <= 102 and names[-1] == "000000000110.json"


def test_a_store_that_is_away_changes_nothing(store: SharedStore, tmp_path: Path) -> None:
    update_route(FLAGS, student)
    before = FLAGS.read_bytes()
    (tmp_path / "shared").rename(tmp_path / "away")
    (tmp_path / "shared").write_text("no folder", encoding="utf-8")
    with pytest.raises(DataError, match="REDISTILL_SHARED_STORE=file:.* there is no folder .*/shared here"):
        update_route(FLAGS, lambda now: with_pin(now, "teacher", "an incident"))
    assert FLAGS.read_bytes() == before


def test_a_project_without_a_name(store: SharedStore) -> None:
    Path("params.yaml").write_text("data: []\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="params.yaml here has no data.name"):
        update_route(FLAGS, student)
