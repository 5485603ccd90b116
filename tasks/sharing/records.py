"""The records of cycles in the shared store (``heads``), and the files that they name (``files``)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from redistill.errors import DataError
from redistill.io.atomic import replacing
from redistill.io.digests import file_digest
from redistill.io.shared_store import SharedStore

HEADS, FILES = "heads", "files"


@dataclass(frozen=True, slots=True)
class Head:
    """What a cycle worked with (``clone``: part → digest), and the files that it left (path → sha256). ``at`` is for people only.

    ``run`` is its MLflow run, by which the server with the versions of all clones is known.
    """

    token: int
    by: str
    at: str
    clone: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    run: str = ""

    @property
    def name(self) -> str:
        """Its object."""
        return f"{HEADS}/{self.token:012d}.json"


_FIELDS = {each.name for each in dataclasses.fields(Head)}


def newest(store: SharedStore) -> Head | None:
    """What the last cycle left; None if there was none.

    Raises:
        DataError: the record is damaged.
    """
    names = store.names(HEADS)
    return _read(store, names[-1]) if names else None


def every(store: SharedStore) -> list[tuple[Head, float]]:
    """All records that the store has, the newest last, each with the Unix time of its object, as the store says it.

    Raises:
        DataError: one of them is damaged.
    """
    return [(_read(store, name), stored.changed_s) for name, stored in sorted(store.entries(HEADS).items())]


def _read(store: SharedStore, name: str) -> Head:
    try:
        tree = json.loads(store.read(f"{HEADS}/{name}") or b"")
        # What a later version adds is not read here.
        return Head(**{key: value for key, value in tree.items() if key in _FIELDS})
    except (ValueError, TypeError, AttributeError):
        raise DataError(
            f"{HEADS}/{name} in the shared store {store.address} is damaged; restore it from a backup of the store, or delete it; then run again"
        ) from None


def write(store: SharedStore, head: Head) -> None:
    """Write a record, after the files that it names."""
    store.write(head.name, json.dumps(asdict(head), indent=1).encode())


def upload_files(store: SharedStore, head: Head) -> None:
    """Write the files of a record that the store does not have."""
    present = set(store.names(FILES))
    for path, digest in head.files.items():
        if digest not in present:
            store.upload(Path(path), f"{FILES}/{digest}")


def fetch(store: SharedStore, head: Head, path: str, target: Path) -> None:
    """Get a file that a cycle left.

    Raises:
        DataError: the file is missing or damaged in the store.
    """
    name = f"{FILES}/{head.files[path]}"
    with replacing(target) as temporary:
        if not store.download(name, temporary) or file_digest(temporary) != head.files[path]:
            raise DataError(
                f"{name} in the shared store {store.address}, which is {path}, is missing or damaged; restore it from a backup of the store, or delete "
                f"{head.name} there, which names it; then run again"
            )


def remove(store: SharedStore, heads: Iterable[Head]) -> None:
    """Remove records."""
    for head in heads:
        store.remove(head.name)


def remove_others(store: SharedStore, head: Head) -> None:
    """Remove all records but this one, also those that are damaged."""
    for name in store.names(HEADS):
        if f"{HEADS}/{name}" != head.name:
            store.remove(f"{HEADS}/{name}")


def unnamed(store: SharedStore, heads: Iterable[Head]) -> dict[str, int]:
    """Files that none of these records names: digest → bytes."""
    named = {digest for head in heads for digest in head.files.values()}
    return {digest: stored.bytes for digest, stored in store.entries(FILES).items() if digest not in named}


def remove_files(store: SharedStore, digests: Iterable[str]) -> None:
    """Remove files of cycles."""
    for digest in digests:
        store.remove(f"{FILES}/{digest}")
