"""What the cycles of a clone depend on, and whether it is what the other clones work with.

The newest record in the shared store (``heads``) says with which settings, code and data the last cycle worked, and has the locks that it left. A clone
remembers the record that it saw last. So there are four cases, as in version control: the same; only the store has moved on; only this clone has; or both.
Locks and ``dvc.lock`` follow the store. Settings, code and data are files of the clone, so a clone that the store has left behind is refused until it is
updated: it would undo what the others did, night after night.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from redistill.errors import ConfigError, DataError
from redistill.io.atomic import replacing
from redistill.io.digests import canonical_digest, file_digest
from redistill.io.json import read_json, write_json
from redistill.io.lease import Claim
from redistill.io.shared_store import SharedStore
from redistill.operations import traces as tracing
from redistill.operations.traces import Traces
from tasks.paths import CODE, LOCK, SOURCES, STATE

REMEMBERED = STATE / "shared.json"
FOLLOWED = (str(LOCK), "dvc.lock", str(STATE / "canary.json"))
"""Files that the cycles write, and that each clone must have as the last cycle left them."""
_DECIDES = str(LOCK)
"""Of these, the one that a person may have changed on purpose in a clone."""
_HEADS, _FILES = "heads", "files"
State = Literal["same", "take", "keep", "both"]


@dataclass(frozen=True, slots=True)
class Head:
    """What the last cycle worked with (``clone``: part → digest), and the files that it left (path → sha256). ``at`` is for people only."""

    token: int
    by: str
    at: str
    clone: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def compared(here: str | None, there: str | None, seen: str | None) -> State:
    """Which of two values moved since they were last the same, where ``seen`` is the store's value then."""
    if there is None or here == there:
        return "same" if here == there else "keep"
    if here is None or here == seen:
        return "take"
    return "keep" if there == seen else "both"


def parts() -> dict[str, str]:
    """What the stages of this clone depend on, as digests. The locks of code and sources must be those of this moment.

    Traffic is left out, since each machine logs its own, and so are tombstones, which all clones unite.
    """
    sources = {key: value for key, value in read_json(SOURCES).items() if key != "forgotten"}
    entries = [entry for entry in sources["sources"] if "traffic" not in entry]
    return {
        "params.yaml": canonical_digest(_yaml(Path("params.yaml"))),
        "dvc.yaml": canonical_digest(_yaml(Path("dvc.yaml"))),
        str(CODE): canonical_digest(read_json(CODE)["stages"]),
        str(SOURCES): canonical_digest({**sources, "sources": entries}),
    }


def _yaml(file: Path) -> Any:
    return json.loads(json.dumps(yaml.safe_load(file.read_text(encoding="utf-8")), default=str))


def newest(store: SharedStore) -> Head | None:
    """What the last cycle left; None if there was none.

    Raises:
        DataError: the record is damaged.
    """
    names = store.names(_HEADS)
    return _read(store, names[-1]) if names else None


def _read(store: SharedStore, name: str) -> Head:
    try:
        return Head(**json.loads(store.read(f"{_HEADS}/{name}") or b""))
    except (ValueError, TypeError):
        raise DataError(f"{_HEADS}/{name} in the shared store {store.address} is damaged; delete it, then run again") from None


def records(store: SharedStore) -> list[Head]:
    """What all cycles left of which the store still has the record, the newest last.

    Raises:
        DataError: a record is damaged.
    """
    return [_read(store, name) for name in store.names(_HEADS)]


def fetch(store: SharedStore, head: Head, path: str, target: Path) -> bool:
    """Get a file that a cycle left; False where it left none.

    Raises:
        DataError: the file is missing or damaged in the store.
    """
    if (digest := head.files.get(path)) is None:
        return False
    _fetch(store, digest, target)
    return True


def remove(store: SharedStore, heads: Iterable[Head]) -> None:
    """Remove records of earlier cycles."""
    for head in heads:
        store.remove(f"{_HEADS}/{_head_name(head)}")


def unnamed(store: SharedStore, heads: Iterable[Head]) -> dict[str, int]:
    """Files of earlier cycles that none of these records names: digest → bytes."""
    named = {digest for head in heads for digest in head.files.values()}
    return {digest: size for digest, size in store.sizes(_FILES).items() if digest not in named}


def remove_files(store: SharedStore, digests: Iterable[str]) -> None:
    """Remove files of earlier cycles."""
    for digest in digests:
        store.remove(f"{_FILES}/{digest}")


def last_seen(store: SharedStore) -> Head | None:
    """The record that this clone saw last, in this store."""
    try:
        tree = json.loads(REMEMBERED.read_text(encoding="utf-8"))
        return Head(**tree["head"]) if tree["store"] == store.address else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def require_known(store: SharedStore) -> None:
    """Refuse a store that has lost the records which this clone saw there: the lease in it would be free, although another worker may hold the real one.

    Raises:
        DataError: it is empty, but was not.
    """
    if last_seen(store) is not None and not store.names(_HEADS):
        raise DataError(
            f"the shared store {store.address} has no record of a cycle, but this clone has seen one there: mount or restore it; if it was emptied on purpose, "
            f"delete {REMEMBERED}; then run again"
        )


def remember(store: SharedStore, head: Head) -> None:
    """From now on, this record is the one that this clone saw last."""
    write_json(REMEMBERED, {"store": store.address, "head": asdict(head)})


def require_same(head: Head, seen: Head | None) -> None:
    """Refuse a clone that the store has left behind.

    Raises:
        ConfigError: its settings, code or data are neither those of the last cycle nor newer.
    """
    here, before = parts(), {} if seen is None else seen.clone
    old = [part for part, digest in here.items() if compared(digest, head.clone.get(part), before.get(part)) in ("take", "both")]
    if not old:
        return
    raise ConfigError(
        f"this clone's {', '.join(old)} {'is' if len(old) == 1 else 'are'} not what {head.by} worked with at {head.at}, and {'it is' if len(old) == 1 else 'they are'} "
        "not newer; nothing was written. Update this clone to the same commit. If this clone is the newer one, run `redistill lock --newest`, then run again"
    )


def follow(store: SharedStore, head: Head, seen: Head | None, paths: tuple[str, ...] = FOLLOWED) -> list[str]:
    """Take the files that the store has newer ones of; returns their paths. A clone that has never seen the store takes all of them.

    Raises:
        ConfigError: a person has changed a lock here, and another clone has changed it too.
        DataError: a file in the store is damaged.
    """
    taken = []
    for path in (each for each in paths if each in head.files):
        here = file_digest(path) if Path(path).is_file() else None
        state = compared(here, head.files[path], seen.files.get(path) if seen is not None else here)
        if state == "both" and path == _DECIDES:
            raise ConfigError(
                f"{path} was changed in this clone and in the clone of {head.by}; nothing was written. To work with the other one, delete {path} here; to work with "
                "this one, run `redistill lock --newest`; then run again"
            )
        if state in ("take", "both"):
            _fetch(store, head.files[path], Path(path))
            taken.append(path)
    return taken


def _fetch(store: SharedStore, digest: str, target: Path) -> None:
    with replacing(target) as temporary:
        if not store.download(f"{_FILES}/{digest}", temporary) or file_digest(temporary) != digest:
            raise DataError(
                f"{_FILES}/{digest} in the shared store {store.address}, which is {target}, is missing or damaged; delete the newest object in {_HEADS} there, then run again"
            )


def publish(store: SharedStore, claim: Claim) -> Head:
    """Write what this clone's cycle worked with and left. Only the holder of the lease has the record's name, so a late writer changes nothing."""
    paths = [path for path in (*FOLLOWED, str(SOURCES)) if Path(path).is_file()]
    head = Head(claim.token, claim.by, claim.at, parts(), {path: file_digest(path) for path in paths})
    present = set(store.names(_FILES))
    for path, digest in head.files.items():
        if digest not in present:
            store.upload(Path(path), f"{_FILES}/{digest}")
    _write(store, head)
    return head


def without(store: SharedStore, head: Head, claim: Claim, traces: Traces) -> Head:
    """A record like ``head`` whose files do not have these prompts: the canaries of an endpoint are prompts of the project."""
    files = dict(head.files)
    with tempfile.TemporaryDirectory() as folder:
        for path, digest in head.files.items():
            file = Path(folder, Path(path).name)
            if store.download(f"{_FILES}/{digest}", file) and tracing.holds(file, traces):
                tracing.remove(file, traces)
                files[path] = file_digest(file)
                store.upload(file, f"{_FILES}/{files[path]}")
    if files == head.files:
        return head
    written = replace(head, token=claim.token, by=claim.by, at=claim.at, files=files)
    _write(store, written)
    for name in store.names(_HEADS):
        if name != _head_name(written):
            # An older record names the old files.
            store.remove(f"{_HEADS}/{name}")
    remove_files(store, set(head.files.values()) - set(files.values()))
    return written


def _write(store: SharedStore, head: Head) -> None:
    store.write(f"{_HEADS}/{_head_name(head)}", json.dumps(asdict(head), indent=1).encode())


def _head_name(head: Head) -> str:
    return f"{head.token:012d}.json"
