"""`redistill gc --shared` in the store that clones share: outputs of stages that no clone, no recent cycle and no kept version names.

Completions and tombstones stay: the one was paid for, and without the other a forgotten prompt could come back.
"""

from __future__ import annotations

import tempfile
from datetime import datetime
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
from tasks.operations.kept.project_store import is_project_store
from tasks.registry.client import RegistryClient
from tasks.sharing import clone, outputs

OBJECTS, RECORDS = "objects in the shared store", "records of cycles in the shared store"


def require_store(params: Params) -> SharedStore:
    """The store of this project.

    Raises:
        ConfigError: the environment names no store, or no server with the versions of all clones.
        DataError: the store is empty or cannot be used.
    """
    if (store := shared_store(params.data.name)) is None:
        raise ConfigError(f"gc --shared frees a store that clones share, and {ADDRESS} names none; set it, or leave out --shared")
    if is_project_store():
        raise ConfigError(
            f"gc --shared keeps what the versions of all clones need, so it must know the MLflow server of all clones; set {MLFLOW}"
        )
    clone.require_known(store)
    return store


def sweep_store(
    store: SharedStore, client: RegistryClient | None, names: Names, retention: RetentionParams, now_s: float, *, dry_run: bool
) -> list[Sweep]:
    """Remove from the store what neither ``names`` nor a cycle of the last ``retention.days`` names. The newest cycle counts whatever its age.

    Raises:
        RegistryError: MLflow's server does not know this project, so it is not the one with its versions.
        DataError: the store cannot be used, or a record or a list in it is damaged; nothing was removed then.
        StageError: the lease was lost.
    """
    records = clone.records(store)
    if records and client is None:
        raise RegistryError(
            f"the shared store has cycles of this project, but the MLflow server has no run of it: {MLFLOW} must name the server of all clones; nothing was removed there"
        )
    stay = [record for record in records if record is records[-1] or is_young(_time_s(record), retention, now_s)]
    go = [record for record in records if record not in stay]
    needed = outputs.with_folders(store, names.objects)
    recent = outputs.with_folders(store, _objects(store, stay))
    present = outputs.listed(store)
    named = needed | recent
    unused = {digest: size for digest, size in present.items() if digest not in named}
    files = clone.unnamed(store, stay)
    if not dry_run:
        # First what names the rest, so that an interrupted gc is completed by the next one.
        present_lease.require()
        clone.remove(store, go)
        clone.remove_files(store, files)
        present_lease.require()
        outputs.remove(store, unused)
    kept = (
        Kept(OBJECTS, "a lock of this clone or of a kept version names them", len(needed & present.keys())),
        Kept(OBJECTS, f"a cycle of the last {retention.days} days, or the newest, names them", len((recent - needed) & present.keys())),
    )
    return [
        Sweep(RECORDS, len(go), sum(files.values()), (Kept(RECORDS, "the newest, and those younger than the retention", len(stay)),)),
        Sweep(OBJECTS, len(unused), sum(unused.values()), tuple(each for each in kept if each.count)),
    ]


def _objects(store: SharedStore, records: list[clone.Head]) -> frozenset[str]:
    """The objects that these cycles left."""
    digests = set[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number, record in enumerate(records):
            file = Path(folder, f"{number}.lock")
            if clone.fetch(store, record, str(outputs.DVC_LOCK), file):
                digests |= {tracked.md5 for stage in dvc_lock.read(file).values() for tracked in (*stage.outs, *stage.deps)}
    return frozenset(digests)


def _time_s(record: clone.Head) -> float:
    try:
        return datetime.fromisoformat(record.at).timestamp()
    except ValueError:
        raise DataError(
            f"the record of the cycle with token {record.token} in the shared store has no time ({record.at[:40]!r}); delete it, then run again"
        ) from None
