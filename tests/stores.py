"""What every kind of shared store does, whatever it is built on."""

from __future__ import annotations

import time
from pathlib import Path

from redistill.io.shared_store import SharedStore


def check_objects(store: SharedStore, folder: Path) -> None:
    """Write, read, list, upload, download and remove, in a store that is empty."""
    assert store.read("a/one") is None and store.names("a") == []
    store.write("a/one", b"1")
    store.write("a/one", b"2")
    store.write("a/b/deeper", b"x")
    assert store.read("a/one") == b"2" and store.names("a") == ["one"] and store.names("a/b") == ["deeper"]
    assert store.create("a/new", b"mine") and not store.create("a/new", b"theirs") and store.read("a/new") == b"mine"
    (folder / "large").write_bytes(b"x" * 100_000)
    store.upload(folder / "large", "a/large")
    assert store.download("a/large", folder / "copy") and (folder / "copy").read_bytes() == b"x" * 100_000
    assert not store.download("a/missing", folder / "none") and not (folder / "none").exists()
    entries = store.entries("a")
    assert {name: stored.bytes for name, stored in entries.items()} == {"large": 100_000, "new": 4, "one": 1} and store.entries(
        "none"
    ) == {}
    assert all(abs(stored.changed_s - time.time()) < 600.0 for stored in entries.values())
    store.remove("a/one")
    store.remove("a/one")
    assert store.names("a") == ["large", "new"]
