"""`redistill gc --shared`: what the store of all clones keeps, what goes, and that a gc that was killed, or that knows too little, harms nothing."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from redistill.errors import ConfigError, DataError, RegistryError, StageError
from redistill.io import present_lease
from redistill.io.json import write_json
from redistill.io.lease import Claim
from redistill.io.shared_store import SharedStore, open_store
from redistill.operations.params import RetentionParams
from redistill.operations.retention import Sweep
from redistill.params import load_params
from tasks.operations.gc import shared_store
from tasks.operations.gc.shared_store import Team
from tasks.operations.kept.bundle_names import Names
from tasks.registry.client import RegistryClient
from tasks.sharing import clone, outputs, records
from tests.tiny_project import make_tiny_project

NOW_S = time.time()
MONTH = RetentionParams(days=30)


class Registry:
    """An MLflow server that knows these runs, as far as gc asks it."""

    def __init__(self, *runs: str) -> None:
        self._runs = runs

    def get_run(self, run_id: str) -> Any:
        import mlflow
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

        if run_id not in self._runs:
            raise mlflow.MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)


def registry(*runs: str) -> RegistryClient:
    return cast(RegistryClient, Registry(*runs))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedStore:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("data: {name: tiny}\n", encoding="utf-8")
    Path("dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    write_json("code.lock.json", {"redistill": "1", "stages": {}})
    write_json("sources.lock.json", {"sources": [], "forgotten": []})
    return open_store((tmp_path / "shared").as_uri())


def cached(content: bytes, kind: str = "") -> str:
    """The digest of an object in this clone's cache."""
    digest = hashlib.md5(content).hexdigest() + kind
    file = local(digest)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return digest


def local(digest: str) -> Path:
    return Path(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}")


def there(digest: str) -> str:
    return f"dvc/files/md5/{digest[:2]}/{digest[2:]}"


def folder_of(*digests: str) -> str:
    return cached(json.dumps([{"md5": digest, "relpath": f"{n}"} for n, digest in enumerate(digests)]).encode(), ".dir")


def age(store: SharedStore, name: str, days: float) -> None:
    os.utime(Path(store.address.removeprefix("file://"), name), (NOW_S - 86400 * days,) * 2)


def cycle(store: SharedStore, token: int, days_ago: float, outs: Sequence[str]) -> None:
    """A cycle that left these objects and its record in the store; what it wrote there is as old as it."""
    listed = "\n".join(f"    - {{path: out{n}, hash: md5, md5: {digest}, size: 1}}" for n, digest in enumerate(outs))
    Path("dvc.lock").write_text(f"schema: '2.0'\nstages:\n  make:\n    cmd: x\n    outs:\n{listed}\n" if outs else "", encoding="utf-8")
    before = outputs.listed(store).keys()
    outputs.push(store)
    head = clone.publish(store, Claim(token, "h", "host", 12, "for people only"), f"run-{token}")
    for name in (*(there(digest) for digest in outputs.listed(store).keys() - before), head.name):
        age(store, name, days_ago)


def swept(store: SharedStore, names: Names | None = None, *, dry_run: bool = False) -> list[Sweep]:
    team = Team(store, tuple(records.every(store)))
    return shared_store.sweep_store(team, names or Names(), MONTH, NOW_S, dry_run=dry_run)


def tokens(store: SharedStore) -> list[int]:
    return [head.token for head, _ in records.every(store)]


def test_what_neither_a_recent_cycle_nor_a_kept_version_names_goes(store: SharedStore) -> None:
    old, kept, recent, newest = (cached(name.encode() * 10) for name in ("old", "kept", "recent", "newest"))
    in_old, in_kept = cached(b"in the old folder"), cached(b"in the kept folder")
    old_folder, kept_folder = folder_of(in_old, kept), folder_of(in_kept)
    cycle(store, 1, 90, [old, old_folder, kept, kept_folder, recent])
    cycle(store, 2, 29, [recent])
    cycle(store, 3, 0, [newest])
    before = outputs.listed(store)
    assert before.keys() == {old, kept, recent, newest, in_old, in_kept, old_folder, kept_folder}
    names = Names(objects=frozenset({kept, kept_folder}))
    planned = swept(store, names, dry_run=True)
    assert outputs.listed(store) == before and tokens(store) == [1, 2, 3], "a dry run changes nothing"
    assert swept(store, names) == planned
    of_records, of_objects = planned
    gone = {old, in_old, old_folder}
    assert (of_objects.removed, of_objects.freed_bytes) == (3, sum(before[digest].bytes for digest in gone))
    assert [(kept.count, kept.reason) for kept in of_objects.kept] == [
        (3, "a lock or .dvc file of this clone, or a kept version names them"),
        (2, "used by the newest cycle, or by one of the last 30 days"),
    ]
    assert of_records.removed == 2 and of_records.freed_bytes > 0, "a record, and the dvc.lock that only it named"
    assert outputs.listed(store).keys() == before.keys() - gone and tokens(store) == [2, 3]
    assert [sweep.removed for sweep in swept(store, names)] == [0, 0]


def test_the_newest_cycle_counts_whatever_its_age_and_one_that_made_nothing_hides_no_other(store: SharedStore) -> None:
    cycle(store, 1, 400, [cached(b"one")])
    cycle(store, 2, 300, [last := cached(b"two")])
    cycle(store, 3, 200, [])
    swept(store)
    assert set(outputs.listed(store)) == {last} and tokens(store) == [2, 3]


def test_what_was_written_lately_stays_although_nothing_names_it(store: SharedStore) -> None:
    """A cycle that was killed before its record, `dvc push`, and a forgotten prompt, which removes earlier records."""
    cycle(store, 1, 0, [new := cached(b"new")])
    for name, days in (("pushed", 3.0), ("abandoned", 31.0)):
        store.upload(local(cached(name.encode())), there(cached(name.encode())))
        age(store, there(cached(name.encode())), days)
    store.write("dvc/files/md5/ab/readme.txt", b"of a person")
    age(store, "dvc/files/md5/ab/readme.txt", 300)
    swept(store)
    assert set(outputs.listed(store)) == {new, cached(b"pushed")} and store.names("dvc/files/md5/ab") == ["readme.txt"]


def test_files_that_a_person_tracks_with_dvc_stay(store: SharedStore) -> None:
    data = cached(b"rows")
    cycle(store, 1, 90, [data, other := cached(b"other")])
    cycle(store, 2, 0, [new := cached(b"new")])
    Path("data").mkdir()
    Path("data/rows.jsonl.dvc").write_text(f"outs:\n- md5: {data}\n  size: 4\n  hash: md5\n  path: rows.jsonl\n", encoding="utf-8")
    swept(store)
    assert set(outputs.listed(store)) == {data, new} and other
    Path("data/rows.jsonl.dvc").write_text("outs: 3", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows.jsonl.dvc cannot be read \(TypeError\); restore it from git"):
        swept(store)


def test_the_clock_of_the_store_counts(store: SharedStore) -> None:
    """Of a machine whose clock is a year ahead, everything would be old."""
    cycle(store, 1, 20, [one := cached(b"one")])
    cycle(store, 2, 0, [two := cached(b"two")])
    store.write("lease/000000000002.json", b"{}")
    team = Team(store, tuple(records.every(store)))
    shared_store.sweep_store(team, Names(), MONTH, NOW_S + 365 * 86400, dry_run=False)
    assert set(outputs.listed(store)) == {one, two} and tokens(store) == [1, 2]


@pytest.mark.parametrize("here", ["missing", "damaged"])
def test_a_folder_whose_list_only_the_store_has_keeps_its_files(store: SharedStore, here: str) -> None:
    inside, other = cached(b"inside"), cached(b"other")
    folder = folder_of(inside)
    cycle(store, 1, 90, [folder, other])
    cycle(store, 2, 0, [other])
    # This clone never had it, as a new machine of the team, or it is damaged here.
    local(folder).unlink()
    if here == "damaged":
        local(folder).write_bytes(b"[]")
    swept(store, Names(objects=frozenset({folder})))
    assert set(outputs.listed(store)) == {folder, inside, other}


def test_a_list_that_is_damaged_stops_it_and_one_that_nobody_has_is_said(store: SharedStore) -> None:
    folder = folder_of(cached(b"inside"))
    cycle(store, 1, 90, [folder, cached(b"old")])
    cycle(store, 2, 0, [cached(b"new")])
    store.write(there(folder), b"[]")
    local(folder).unlink()
    before = outputs.listed(store)
    with pytest.raises(DataError, match="is damaged, so the files of its folder are not known; restore it"):
        swept(store, Names(objects=frozenset({folder})))
    assert outputs.listed(store) == before and tokens(store) == [1, 2]
    store.remove(there(folder))
    assert "1 folders that kept versions name have no list" in swept(store, Names(objects=frozenset({folder})))[1].note


def test_a_store_without_records_is_left_alone(store: SharedStore) -> None:
    cycle(store, 1, 90, [old := cached(b"old")])
    for name in store.names("heads"):
        store.remove(f"heads/{name}")
    team = shared_store.require_knowledge(store, None, ())
    [sweep] = shared_store.sweep_store(team, Names(), MONTH, NOW_S, dry_run=False)
    assert sweep.removed == 0 and "it was left alone" in sweep.note and set(outputs.listed(store)) == {old}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"by": "x"}', b""])
def test_a_record_that_is_damaged_stops_it(store: SharedStore, content: bytes) -> None:
    cycle(store, 1, 90, [cached(b"old")])
    cycle(store, 2, 0, [cached(b"new")])
    store.write("heads/000000000001.json", content)
    with pytest.raises(DataError, match="heads/000000000001.json in the shared store .* is damaged; restore it"):
        shared_store.require_knowledge(store, registry("run-2"), ())


def test_a_record_of_a_later_version_is_read(store: SharedStore) -> None:
    cycle(store, 1, 0, [cached(b"one")])
    tree = json.loads(store.read("heads/000000000001.json") or b"")
    store.write("heads/000000000001.json", json.dumps({**tree, "of_later": 1}).encode())
    newest = records.newest(store)
    assert newest is not None and newest.run == "run-1"


@pytest.mark.parametrize("content", [None, b"stages: ["])
def test_a_recent_record_whose_lock_is_gone_or_damaged_is_named(store: SharedStore, content: bytes | None) -> None:
    cycle(store, 1, 10, [cached(b"one")])
    cycle(store, 2, 0, [cached(b"two")])
    head = records.every(store)[0][0]
    store.remove(f"files/{head.files['dvc.lock']}")
    if content is not None:
        # As a clone would publish it whose dvc.lock was cut off.
        digest = hashlib.sha256(content).hexdigest()
        store.write(f"files/{digest}", content)
        tree = json.loads(store.read(head.name) or b"")
        store.write(head.name, json.dumps({**tree, "files": {"dvc.lock": digest}}).encode())
    with pytest.raises(DataError, match=r"or delete heads/000000000001.json there") as error:
        swept(store)
    assert "\n" not in str(error.value) and len(outputs.listed(store)) == 2


def test_a_sweep_that_was_killed_is_completed_by_the_next_one(store: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [cached(bytes([n]) * 9) for n in range(40)]
    cycle(store, 1, 90, [folder_of(*old)])
    cycle(store, 2, 0, [new := cached(b"new")])
    removed = list[str]()

    def dies(name: str) -> None:
        if len(removed) >= 5:
            raise KeyboardInterrupt
        removed.append(name)
        Path(store.address.removeprefix("file://"), name).unlink(missing_ok=True)

    with monkeypatch.context() as patched:
        patched.setattr(store, "remove", dies)
        with pytest.raises(KeyboardInterrupt):
            swept(store)
    assert records.newest(store) is not None and len(outputs.listed(store)) > 1
    swept(store)
    assert set(outputs.listed(store)) == {new}


def test_it_stops_where_the_lease_is_lost(store: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another clone's cycle does not upload again what is still there."""
    cycle(store, 1, 90, [folder_of(*(cached(bytes([n]) * 9) for n in range(60)))])
    cycle(store, 2, 0, [cached(b"new")])
    asked = list[int]()

    def lost() -> None:
        asked.append(1)
        if len(asked) > 3:
            raise StageError("this worker lost its lease")

    monkeypatch.setattr(present_lease, "require", lost)
    with pytest.raises(StageError, match="lost its lease"):
        swept(store)
    assert len(outputs.listed(store)) == 62 - 1 - 16, "the list of the folder, and one batch"


@pytest.mark.parametrize("client", [None, registry(), registry("another")])
def test_another_registry_than_that_of_all_clones_is_refused(store: SharedStore, client: RegistryClient | None) -> None:
    cycle(store, 1, 90, [cached(b"old")])
    cycle(store, 2, 0, [cached(b"new")])
    with pytest.raises(RegistryError, match="knows no cycle of the shared store.*set MLFLOW_TRACKING_URI"):
        shared_store.require_knowledge(store, client, ())
    shared_store.require_knowledge(store, registry("run-1"), ())
    with pytest.raises(RegistryError, match="the bundle of version 7 cannot be read, so what all clones need is not known; try again"):
        shared_store.require_knowledge(store, registry("run-2"), ["the bundle of version 7 cannot be read"])


def test_a_clone_that_is_behind_and_a_store_that_is_older_are_refused(store: SharedStore) -> None:
    cycle(store, 1, 2, [cached(b"one")])
    cycle(store, 2, 0, [cached(b"two")])
    newest = records.newest(store)
    assert newest is not None
    Path("params.yaml").write_text("data: {name: tiny}\nretention: {days: 1}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"this clone's params.yaml is not what .* worked with"):
        shared_store.require_knowledge(store, registry("run-2"), ())
    Path("params.yaml").write_text("data: {name: tiny}\n", encoding="utf-8")
    clone.remember(store, newest)
    shared_store.require_knowledge(store, registry("run-2"), ())
    store.remove(newest.name)
    with pytest.raises(DataError, match="has lost its newest record, heads/000000000002.json"):
        shared_store.require_knowledge(store, registry("run-1"), ())


def test_it_needs_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_tiny_project(tmp_path / "project"))
    monkeypatch.delenv("REDISTILL_SHARED_STORE", raising=False)
    with pytest.raises(ConfigError, match="REDISTILL_SHARED_STORE is not set"):
        shared_store.require_store(load_params())
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("REDISTILL_SHARED_STORE", (tmp_path / "shared").as_uri())
    assert shared_store.require_store(load_params()).address.endswith("/shared/tiny")
