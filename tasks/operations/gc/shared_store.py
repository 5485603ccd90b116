"""`redistill gc --shared` in the store that clones share: outputs of stages that no clone, no recent cycle and no kept version names.

It removes what belongs to a whole team, so it begins only where this clone knows what the others need: it works with the same settings as they do, and with
the MLflow server of their versions. What was written lately stays in any case. Completions stay, because they are expensive. Tombstones stay too: without its
tombstone, a forgotten prompt could come back.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redistill.errors import ConfigError, DataError, RegistryError
from redistill.io import present_lease
from redistill.io.shared_store import ADDRESS, SharedStore, shared_store
from redistill.operations.params import RetentionParams
from redistill.operations.retention import Kept, Sweep, is_young
from redistill.params import Params
from redistill.provenance import dvc_lock
from tasks.operations.addresses import MLFLOW
from tasks.operations.kept.bundle_names import Names
from tasks.registry.client import RegistryClient
from tasks.running.dvc_objects import tracked_by_hand
from tasks.sharing import clone, outputs, records, turn
from tasks.sharing.records import Head

OBJECTS, RECORDS = "objects in the shared store", "records of cycles in the shared store"


@dataclass(frozen=True, slots=True)
class Team:
    """The store, and its records of cycles with the time at which each was written, the newest last."""

    store: SharedStore
    records: tuple[tuple[Head, float], ...]


def require_store(params: Params) -> SharedStore:
    """The store of this project.

    Raises:
        ConfigError: the environment names none.
        DataError: it cannot be used, or has lost what this clone saw there.
    """
    if (store := shared_store(params.data.name)) is None:
        raise ConfigError(f"gc --shared frees the store that clones share, and {ADDRESS} is not set; set it, or leave out --shared")
    clone.require_known(store)
    return store


def require_knowledge(store: SharedStore, client: RegistryClient | None, notes: Sequence[str]) -> Team:
    """Refuse to go on where this clone may not know what the others need. ``notes``: what could not be read of kept versions.

    Raises:
        ConfigError: its settings, code or data are not those of the newest cycle.
        RegistryError: the MLflow server is not that of the newest cycles, or did not say what a kept version needs.
        DataError: a record in the store is damaged, or the store is older than what this clone saw.
    """
    every = records.every(store)
    if every:
        newest, seen = every[-1][0], clone.last_seen(store)
        if seen is not None and seen.token > newest.token:
            raise DataError(
                f"the shared store {store.address} has lost its newest record, {seen.name}, which this clone saw; restore the store, or run a cycle; nothing was removed"
            )
        clone.require_same(newest, seen)
        if client is None or not any(_has_run(client, head) for head, _ in every):
            raise RegistryError(
                f"this MLflow server knows no cycle of the shared store, so the versions that need something there are not known; set {MLFLOW} to the server of "
                "all clones, or run a cycle with this one; nothing was removed"
            )
        if notes:
            raise RegistryError(f"{notes[0]}, so what all clones need is not known; try again, or leave out --shared; nothing was removed")
    return Team(store, tuple(every))


def _has_run(client: RegistryClient, head: Head) -> bool:
    import mlflow

    if not head.run:
        return False
    try:
        client.get_run(head.run)
    except mlflow.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def sweep_store(team: Team, names: Names, retention: RetentionParams, now_s: float, *, dry_run: bool) -> list[Sweep]:
    """Remove from the store what was not written in the last ``retention.days`` and is named neither by ``names``, nor by a cycle of these days, nor by the newest cycle.

    Raises:
        DataError: the store cannot be used, or something in it is damaged; nothing was removed there then.
        StageError: the lease was lost; what was not removed yet stays.
    """
    store = team.store
    if not team.records:
        return [
            Sweep(
                OBJECTS, note=f"the shared store {store.address} has no record of a cycle, so what is in it is not known: it was left alone"
            )
        ]
    # The store's clock tells the age of what is in it.
    now_s = min(now_s, max((each.changed_s for each in store.entries(turn.LEASE).values() if each.changed_s < math.inf), default=now_s))
    left = {head.name: _left_by(store, head) for head, written_s in team.records if is_young(written_s, retention, now_s)}
    # The newest cycle may have failed before it made anything.
    for head, _ in reversed(team.records):
        if head.name not in left:
            left[head.name] = _left_by(store, head)
        if left[head.name]:
            break
    stay = [head for head, _ in team.records if head.name in left]
    needed, unknown = outputs.with_folders(store, names.objects | tracked_by_hand(Path()))
    recent, _ = outputs.with_folders(store, frozenset().union(*left.values()))
    present = outputs.listed(store)
    young = {digest for digest, stored in present.items() if is_young(stored.changed_s, retention, now_s)}
    unused = {digest: present[digest].bytes for digest in present.keys() - needed - recent - young}
    gone, files = [head for head, _ in team.records if head.name not in left], records.unnamed(store, stay)
    if not dry_run:
        # First what names the rest, so that an interrupted gc is completed by the next one.
        present_lease.require()
        records.remove(store, gone)
        records.remove_files(store, files)
        outputs.remove(store, unused)
    kept = (
        Kept(OBJECTS, "a lock or .dvc file of this clone, or a kept version names them", len(needed & present.keys())),
        Kept(OBJECTS, f"used by the newest cycle, or by one of the last {retention.days} days", len((recent - needed) & present.keys())),
        Kept(OBJECTS, "younger than the retention", len(young - needed - recent)),
    )
    note = (
        f"{unknown} folders that kept versions name have no list in this clone or in the shared store, so their files are not kept there"
        if unknown
        else ""
    )
    return [
        Sweep(
            RECORDS,
            len(gone) + len(files),
            sum(files.values()),
            (Kept(RECORDS, "the newest, and those younger than the retention", len(stay)),),
        ),
        Sweep(OBJECTS, len(unused), sum(unused.values()), tuple(each for each in kept if each.count), note),
    ]


def _left_by(store: SharedStore, head: Head) -> frozenset[str]:
    """The objects that a cycle left; none if it failed before its first stage."""
    path = str(outputs.DVC_LOCK)
    if path not in head.files:
        return frozenset()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, path)
        records.fetch(store, head, path, file)
        if not file.stat().st_size:
            return frozenset()
        try:
            return frozenset(tracked.md5 for stage in dvc_lock.read(file).values() for tracked in (*stage.outs, *stage.deps))
        except DataError:
            raise DataError(
                f"the {path} that {head.name} names in the shared store {store.address} cannot be read; restore files/{head.files[path]} from a backup of the store, "
                f"or delete {head.name} there; then run again"
            ) from None
