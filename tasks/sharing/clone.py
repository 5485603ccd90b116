"""What the cycles of a clone depend on, and whether it is what the other clones work with.

The newest record in the shared store (``heads``) says with which settings, code and data the last cycle worked, and has the locks that it left. A clone
remembers the record that it saw last. So there are four cases, as in version control: the same; only the store has moved on; only this clone has; or both.
Locks and ``dvc.lock`` follow the store. Settings, code and data are files of the clone, so a clone that the store has left behind is refused until it is
updated: it would undo what the others did, night after night.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from redistill.errors import ConfigError, DataError
from redistill.io.digests import canonical_digest, file_digest
from redistill.io.json import read_json, write_json
from redistill.io.lease import Claim
from redistill.io.shared_store import SharedStore
from redistill.operations import traces as tracing
from redistill.operations.traces import Traces
from tasks.paths import CODE, LOCK, SOURCES, STATE
from tasks.sharing import records
from tasks.sharing.records import Head

REMEMBERED = STATE / "shared.json"
FOLLOWED = (str(LOCK), "dvc.lock", str(STATE / "canary.json"))
"""Files that the cycles write, and that each clone must have as the last cycle left them."""
_DECIDES = str(LOCK)
"""Of these, the one that a person may have changed on purpose in a clone."""
State = Literal["same", "take", "keep", "both"]


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
    if last_seen(store) is not None and not store.names(records.HEADS):
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
            records.fetch(store, head, path, Path(path))
            taken.append(path)
    return taken


def publish(store: SharedStore, claim: Claim, run: str = "") -> Head:
    """Write what this clone's cycle worked with and left; ``run`` is its MLflow run. Only the holder of the lease has the record's name, so a late writer changes nothing."""
    paths = [path for path in (*FOLLOWED, str(SOURCES)) if Path(path).is_file()]
    head = Head(claim.token, claim.by, claim.at, parts(), {path: file_digest(path) for path in paths}, run)
    records.upload_files(store, head)
    records.write(store, head)
    return head


def without(store: SharedStore, head: Head, claim: Claim, traces: Traces) -> Head:
    """A record like ``head`` whose files do not have these prompts: the canaries of an endpoint are prompts of the project."""
    files = dict(head.files)
    with tempfile.TemporaryDirectory() as folder:
        for path, digest in head.files.items():
            file = Path(folder, Path(path).name)
            if store.download(f"{records.FILES}/{digest}", file) and tracing.holds(file, traces):
                tracing.remove(file, traces)
                files[path] = file_digest(file)
                store.upload(file, f"{records.FILES}/{files[path]}")
    if files == head.files:
        return head
    written = replace(head, token=claim.token, by=claim.by, at=claim.at, files=files)
    records.write(store, written)
    # Older records name the old files.
    records.remove_others(store, written)
    records.remove_files(store, set(head.files.values()) - set(files.values()))
    return written
