"""`redistill gc --shared`: what the store of all clones keeps, what goes, and that a gc that was killed, or that knows too little, harms nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from redistill.errors import ConfigError, DataError, RegistryError
from redistill.io.json import write_json
from redistill.io.lease import Claim
from redistill.io.shared_store import SharedStore, open_store
from redistill.operations.params import RetentionParams
from redistill.operations.retention import Sweep
from redistill.params import load_params
from tasks.operations.gc import shared_store
from tasks.operations.kept.bundle_names import Names
from tasks.registry.client import RegistryClient
from tasks.sharing import clone, outputs
from tests.tiny_project import make_tiny_project

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MONTH = RetentionParams(days=30)
REGISTRY = cast(RegistryClient, object())
"""Of the registry, the sweep asks only whether there is one."""


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
    file = Path(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return digest


def folder_of(*digests: str) -> str:
    return cached(json.dumps([{"md5": digest, "relpath": f"{n}"} for n, digest in enumerate(digests)]).encode(), ".dir")


def cycle(store: SharedStore, token: int, days_ago: float, outs: Sequence[str]) -> None:
    """A cycle that left these objects and its record in the store."""
    listed = "\n".join(f"    - {{path: out{n}, hash: md5, md5: {digest}, size: 1}}" for n, digest in enumerate(outs))
    Path("dvc.lock").write_text(f"schema: '2.0'\nstages:\n  make:\n    cmd: x\n    outs:\n{listed}\n", encoding="utf-8")
    outputs.push(store)
    clone.publish(store, Claim(token, "h", "host", 12, (NOW - timedelta(days=days_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")))


def swept(
    store: SharedStore, names: Names | None = None, client: RegistryClient | None = REGISTRY, *, dry_run: bool = False
) -> list[Sweep]:
    return shared_store.sweep_store(store, client, names or Names(), MONTH, NOW.timestamp(), dry_run=dry_run)


def test_what_neither_a_recent_cycle_nor_a_kept_version_names_goes(store: SharedStore) -> None:
    old, kept, recent, newest = (cached(name.encode() * 10) for name in ("old", "kept", "recent", "newest"))
    in_old, in_kept = cached(b"in the old folder"), cached(b"in the kept folder")
    old_folder, kept_folder = folder_of(in_old, kept), folder_of(in_kept)
    cycle(store, 1, 90, [old, old_folder, kept, kept_folder])
    cycle(store, 2, 29, [recent])
    cycle(store, 3, 0, [newest])
    before = outputs.listed(store)
    assert before.keys() == {old, kept, recent, newest, in_old, in_kept, old_folder, kept_folder}
    names = Names(objects=frozenset({kept, kept_folder}))
    planned = swept(store, names, dry_run=True)
    assert outputs.listed(store) == before and len(clone.records(store)) == 3, "a dry run changes nothing"
    assert swept(store, names) == planned
    records, objects = planned
    gone = {old, in_old, old_folder}
    assert (objects.removed, objects.freed_bytes) == (3, sum(before[digest] for digest in gone))
    assert [(kept.count, kept.reason) for kept in objects.kept] == [
        (3, "a lock of this clone or of a kept version names them"),
        (2, "a cycle of the last 30 days, or the newest, names them"),
    ]
    assert records.removed == 1 and records.freed_bytes > 0
    assert outputs.listed(store).keys() == before.keys() - gone
    assert [record.token for record in clone.records(store)] == [2, 3]
    again = swept(store, names)
    assert [sweep.removed for sweep in again] == [0, 0]


def test_the_newest_cycle_counts_whatever_its_age(store: SharedStore) -> None:
    cycle(store, 1, 400, [cached(b"one")])
    cycle(store, 2, 300, [last := cached(b"two")])
    swept(store)
    assert set(outputs.listed(store)) == {last} and [record.token for record in clone.records(store)] == [2]
    assert clone.newest(store) == clone.records(store)[-1]


def test_a_folder_whose_list_only_the_store_has_keeps_its_files(store: SharedStore) -> None:
    inside, other = cached(b"inside"), cached(b"other")
    folder = folder_of(inside)
    cycle(store, 1, 90, [folder, other])
    cycle(store, 2, 0, [other])
    # This clone never had it, as a new machine of the team.
    Path(f".dvc/cache/files/md5/{folder[:2]}/{folder[2:]}").unlink()
    swept(store, Names(objects=frozenset({folder})))
    assert set(outputs.listed(store)) == {folder, inside, other}


def test_a_list_that_is_damaged_stops_it_before_anything_goes(store: SharedStore) -> None:
    folder = folder_of(cached(b"inside"))
    cycle(store, 1, 90, [folder, cached(b"old")])
    cycle(store, 2, 0, [cached(b"new")])
    store.write(f"dvc/files/md5/{folder[:2]}/{folder[2:]}", b"[]")
    Path(f".dvc/cache/files/md5/{folder[:2]}/{folder[2:]}").unlink()
    before = outputs.listed(store)
    with pytest.raises(DataError, match="is damaged, so what it names is unknown"):
        swept(store, Names(objects=frozenset({folder})))
    assert outputs.listed(store) == before and len(clone.records(store)) == 2


def test_a_record_that_is_damaged_stops_it(store: SharedStore) -> None:
    cycle(store, 1, 90, [cached(b"old")])
    cycle(store, 2, 0, [cached(b"new")])
    store.write("heads/000000000001.json", b"{")
    with pytest.raises(DataError, match="heads/000000000001.json in the shared store .* is damaged"):
        swept(store)
    assert len(outputs.listed(store)) == 2


def test_a_sweep_that_was_killed_is_completed_by_the_next_one(store: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [cached(bytes([n]) * 9) for n in range(12)]
    cycle(store, 1, 90, [folder_of(*old)])
    cycle(store, 2, 0, [new := cached(b"new")])
    removed = list[str]()

    def dies(name: str) -> None:
        if len(removed) == 5:
            raise KeyboardInterrupt
        removed.append(name)
        Path(store.address.removeprefix("file://"), name).unlink(missing_ok=True)

    with monkeypatch.context() as patched:
        patched.setattr(store, "remove", dies)
        with pytest.raises(KeyboardInterrupt):
            swept(store)
    assert clone.newest(store) is not None and len(outputs.listed(store)) > 1
    swept(store)
    assert set(outputs.listed(store)) == {new}


def test_another_registry_than_that_of_all_clones_is_refused(store: SharedStore) -> None:
    cycle(store, 1, 90, [cached(b"old")])
    cycle(store, 2, 0, [cached(b"new")])
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI must name the server of all clones"):
        swept(store, client=None)
    assert len(outputs.listed(store)) == 2


def test_what_it_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_tiny_project(tmp_path / "project"))
    params: Any = load_params()
    for name in ("REDISTILL_SHARED_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="REDISTILL_SHARED_STORE names none"):
        shared_store.require_store(params)
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("REDISTILL_SHARED_STORE", (tmp_path / "shared").as_uri())
    with pytest.raises(ConfigError, match="set MLFLOW_TRACKING_URI"):
        shared_store.require_store(params)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert shared_store.require_store(params).address.endswith("/shared/tiny")
