"""Whether a clone is what the others work with: the same, behind, ahead, or both; and what it takes from the store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from redistill.data.forgotten import Tombstone, bury, forgotten_digests, tombstone_digest
from redistill.errors import ConfigError, DataError
from redistill.io.json import write_json
from redistill.io.lease import Claim
from redistill.io.shared_store import SharedStore, open_store
from redistill.operations.traces import Traces
from tasks.paths import FORGOTTEN
from tasks.sharing import clone, completions, outputs, records

CLAIM = Claim(1, "h", "host", 12, "2026-11-28T02:00:00Z")


@pytest.fixture
def store(tmp_path: Path) -> SharedStore:
    return open_store((tmp_path / "shared").as_uri())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(tmp_path / "a", monkeypatch)


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = "c1") -> Path:
    """A clone with its settings, code and sources, and no teacher yet."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("params.yaml").write_text("data: {name: tiny}\n", encoding="utf-8")
    Path("dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    write_json("code.lock.json", {"redistill": "1", "stages": {"score": {"digest": code}}})
    write_json("sources.lock.json", {"sources": [{"path": "a.jsonl", "sha256": "1"}], "forgotten": []})
    return folder


@pytest.mark.parametrize(
    ("here", "there", "seen", "state"),
    [
        ("a", "a", None, "same"), ("a", "a", "z", "same"), (None, None, None, "same"),
        ("a", None, None, "keep"), ("b", "a", "a", "keep"),
        ("a", "b", "a", "take"), (None, "b", "a", "take"), (None, "b", None, "take"),
        ("b", "c", "a", "both"), ("b", "c", None, "both"),
    ],
)  # fmt: skip
def test_four_cases(here: str | None, there: str | None, seen: str | None, state: str) -> None:
    assert clone.compared(here, there, seen) == state


def test_a_clone_with_other_code_is_refused_until_it_is_updated_or_declared_newer(
    here: Path, store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = clone.publish(store, CLAIM)
    clone.require_same(head, None)
    enter(tmp_path / "b", monkeypatch, code="c2")
    with pytest.raises(
        ConfigError,
        match=r"this clone's code.lock.json is not what host \(process 12\) worked with.*not newer; nothing was written.*--newest",
    ) as refused:
        clone.require_same(head, clone.last_seen(store))
    assert "\n" not in str(refused.value)
    clone.remember(store, head)
    clone.require_same(head, clone.last_seen(store))
    newer = clone.publish(store, replace(CLAIM, token=2))
    # The first clone has seen the head before, and has not changed: it is behind.
    monkeypatch.chdir(here)
    clone.remember(store, head)
    with pytest.raises(ConfigError, match="code.lock.json"):
        clone.require_same(newer, clone.last_seen(store))


def test_other_settings_and_data_are_named_together(
    here: Path, store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = clone.publish(store, CLAIM)
    enter(tmp_path / "b", monkeypatch)
    Path("params.yaml").write_text("data: {name: tiny}\nscore: {top_k: 3}\n", encoding="utf-8")
    write_json("sources.lock.json", {"sources": [{"path": "a.jsonl", "sha256": "2"}], "forgotten": []})
    with pytest.raises(ConfigError, match="this clone's params.yaml, sources.lock.json are not what"):
        clone.require_same(head, None)


def test_traffic_and_tombstones_make_no_other_clone(here: Path, store: SharedStore) -> None:
    head = clone.publish(store, CLAIM)
    entries = [{"path": "a.jsonl", "sha256": "1"}, {"path": ".redistill/snapshots/x", "sha256": "x", "traffic": "router"}]
    write_json("sources.lock.json", {"sources": entries, "forgotten": ["digest"]})
    clone.require_same(head, None)


def test_locks_follow_the_store(here: Path, store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json("teacher.lock.json", {"current": "t1"})
    write_json(".redistill/canary.json", {"last": "e1"})
    head = clone.publish(store, CLAIM)
    enter(tmp_path / "b", monkeypatch)
    assert clone.follow(store, head, None) == ["teacher.lock.json", ".redistill/canary.json"]
    assert json.loads(Path("teacher.lock.json").read_text(encoding="utf-8")) == {"current": "t1"}
    clone.remember(store, head)
    assert clone.follow(store, head, clone.last_seen(store)) == []
    write_json("teacher.lock.json", {"current": "mine"})
    assert clone.follow(store, head, clone.last_seen(store)) == [], "what was changed here is newer"
    monkeypatch.chdir(here)
    write_json("teacher.lock.json", {"current": "t2"})
    newer = clone.publish(store, replace(CLAIM, token=2))
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ConfigError, match=r"teacher.lock.json was changed in this clone and in the clone of host"):
        clone.follow(store, newer, clone.last_seen(store))
    Path("teacher.lock.json").unlink()
    assert clone.follow(store, newer, clone.last_seen(store)) == ["teacher.lock.json"]


def test_a_record_of_an_earlier_token_is_never_the_newest(here: Path, store: SharedStore) -> None:
    """A cycle that lost its lease writes late: its record has the name of its old token."""
    clone.publish(store, replace(CLAIM, token=9))
    clone.publish(store, replace(CLAIM, token=8, host="late"))
    newest = records.newest(store)
    assert newest is not None and newest.token == 9


def test_a_store_that_has_lost_its_records_is_not_a_new_one(here: Path, store: SharedStore) -> None:
    clone.require_known(store)
    head = clone.publish(store, Claim(1, "holder", "host", 1, "now"))
    clone.remember(store, head)
    clone.require_known(store)
    for name in store.names("heads"):
        store.remove(f"heads/{name}")
    with pytest.raises(DataError, match="has no record of a cycle, but this clone has seen one there: mount or restore it"):
        clone.require_known(store)


def test_what_is_damaged_in_the_store_is_one_line(here: Path, store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json("teacher.lock.json", {"current": "t1"})
    head = clone.publish(store, CLAIM)
    store.write(f"files/{head.files['teacher.lock.json']}", b"{}")
    enter(tmp_path / "b", monkeypatch)
    with pytest.raises(DataError, match="which is teacher.lock.json, is missing or damaged"):
        clone.follow(store, head, None)
    assert not Path("teacher.lock.json").exists()
    store.write("heads/000000000009.json", b"{half")
    with pytest.raises(DataError, match="heads/000000000009.json in the shared store .* is damaged"):
        records.newest(store)


def test_tombstones_travel_both_ways(here: Path, store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bury(FORGOTTEN, Tombstone(tombstone_digest("one"), "2026-01-01T00:00:00+00:00", "asked", ("o1",), "signature"))
    assert completions.unite_tombstones(store) == 0
    other = enter(tmp_path / "b", monkeypatch)
    bury(FORGOTTEN, Tombstone(tombstone_digest("two"), "2026-01-02T00:00:00+00:00", "asked"))
    assert completions.unite_tombstones(store) == 1 and completions.unite_tombstones(store) == 0
    monkeypatch.chdir(here)
    assert completions.unite_tombstones(store) == 1
    digests = {tombstone_digest("one"), tombstone_digest("two")}
    assert forgotten_digests(FORGOTTEN) == forgotten_digests(other / FORGOTTEN) == digests
    name = store.names("forgotten")[0]
    store.write(f"forgotten/{name}", b"no tombstone")
    Path(FORGOTTEN).unlink()
    with pytest.raises(DataError, match=f"the tombstone forgotten/{name} in the shared store .* is damaged"):
        completions.unite_tombstones(store)


LOCK = """
schema: '2.0'
stages:
  make:
    cmd: x
    outs:
    - {path: out.txt, hash: md5, md5: DIGEST, size: 5}
"""


def cached(text: str) -> str:
    """The digest of an object in this clone's cache, with a dvc.lock that names it."""
    from hashlib import md5

    digest = md5(text.encode()).hexdigest()
    file = Path(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    Path("dvc.lock").write_text(LOCK.replace("DIGEST", digest), encoding="utf-8")
    return digest


def test_a_damaged_object_is_refused_and_removed(here: Path, store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = cached("hello")
    Path("out.txt").write_text("hello", encoding="utf-8")
    assert outputs.push(store) == 1 and outputs.push(store) == 0
    store.write(f"dvc/files/md5/{digest[:2]}/{digest[2:]}", b"hullo")
    lock = Path("dvc.lock").read_text(encoding="utf-8")
    enter(tmp_path / "b", monkeypatch)
    Path("dvc.lock").write_text(lock, encoding="utf-8")
    Path("out.txt").write_text("other", encoding="utf-8")
    said: list[str] = []
    outputs.pull(store, said.append)
    [line] = said
    assert f"1 objects in the shared store were damaged and were removed there ({digest})" in line
    assert not list(Path(".dvc/cache").rglob("*" + digest[2:])), "nothing of it is in the cache"
    monkeypatch.chdir(here)
    assert outputs.push(store) == 1, "a clone that has it whole writes it again"


def test_a_damaged_older_record_does_not_stop_the_removal_of_a_prompt(here: Path, store: SharedStore) -> None:
    write_json(".redistill/canary.json", {"prompts": [{"id": "p-1"}]})
    head = clone.publish(store, replace(CLAIM, token=2))
    store.write("heads/000000000001.json", b"{half")
    cleaned = clone.without(store, head, replace(CLAIM, token=3), Traces(frozenset({"p-1"}), ()))
    assert store.names("heads") == ["000000000003.json"] and cleaned.files != head.files
