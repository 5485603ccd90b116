"""The outputs of stages in the shared store: objects of DVC's cache, in the folders of a DVC remote, so that `dvc pull` can read them too.

DVC itself keeps a list of what it pushed, and then trusts it. Here the store is asked what it has, and each object is checked by its digest when it comes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from redistill.errors import DataError
from redistill.io import present_lease
from redistill.io.shared_store import SharedStore, Stored
from redistill.provenance import dvc_lock
from tasks.running.dvc_objects import is_digest, object_file, with_content
from tasks.running.dvc_stage import cache_folder, dvc

OBJECTS = "dvc/files/md5"
DVC_LOCK = Path("dvc.lock")
_AT_ONCE = 8
_BATCH = 2 * _AT_ONCE
"""So many objects are removed before the lease is looked at again."""
_T = TypeVar("_T")
_R = TypeVar("_R")


def push(store: SharedStore) -> int:
    """Write the objects of ``dvc.lock`` that the store does not have; returns how many."""
    cache = cache_folder()
    digests = [digest for digest in with_content(cache, _locked()) if object_file(cache, digest).is_file()]
    missing = _not_in(store, digests)

    def upload(digest: str) -> None:
        store.upload(object_file(cache, digest), _name(digest))

    # A list in the store means that all its files are there, so it comes last.
    _each(upload, [digest for digest in missing if not digest.endswith(".dir")])
    _each(upload, [digest for digest in missing if digest.endswith(".dir")])
    return len(missing)


def pull(store: SharedStore, say: Callable[[str], None]) -> None:
    """Put the objects of ``dvc.lock`` into DVC's cache and check the outputs out. What the store does not have, its stage makes again."""
    cache = cache_folder()
    # The lists of folders first: they name the rest.
    locked = _locked()
    states = _fetch(store, cache, locked)
    states += _fetch(store, cache, with_content(cache, locked) - set(locked))
    damaged = [digest for digest, whole in states if whole is False]
    if damaged:
        for digest in damaged:
            # So that the clone whose stage makes it again pushes it again.
            store.remove(_name(digest))
        say(
            f"{len(damaged)} objects in the shared store were damaged and were removed there ({', '.join(damaged[:3])}); their stages run again"
        )
    if came := sum(whole is True for _, whole in states):
        say(f"{came} objects of stages' outputs came from the shared store")
    if came or any(not Path(path).exists() for path in _paths()):
        # dvc.yaml may have stages that this project never runs. Without the option, DVC would report their outputs as missing.
        dvc("checkout", "--quiet", "--force", "--allow-missing")


def remove(store: SharedStore, digests: Iterable[str]) -> None:
    """Remove objects, for example those with a forgotten prompt.

    Raises:
        StageError: the lease was lost. Another clone may have counted on what is still there, so the rest stays.
    """
    every = sorted(digests)
    # A list in the store means that all its files are there, so it is removed first.
    for part in ([d for d in every if d.endswith(".dir")], [d for d in every if not d.endswith(".dir")]):
        for start in range(0, len(part), _BATCH):
            present_lease.require()
            _each(lambda digest: store.remove(_name(digest)), part[start : start + _BATCH])
    present_lease.require()


def listed(store: SharedStore) -> dict[str, Stored]:
    """Every object of DVC in the store."""
    folders = [f"{number:02x}" for number in range(256)]
    entries = _each(lambda folder: store.entries(f"{OBJECTS}/{folder}"), folders)
    every = ((folder + name, stored) for folder, names in zip(folders, entries, strict=True) for name, stored in names.items())
    return {digest: stored for digest, stored in every if is_digest(digest)}


def with_folders(store: SharedStore, digests: Iterable[str]) -> tuple[frozenset[str], int]:
    """The digests, and for each folder also those of the files in it; and how many lists of folders neither this clone nor the store has.

    Raises:
        DataError: the store's list of a folder is damaged, and this clone has none.
    """
    every, cache = frozenset(digests), cache_folder()
    elsewhere = sorted(digest for digest in every if digest.endswith(".dir") and not _whole(object_file(cache, digest), digest))
    with tempfile.TemporaryDirectory() as folder:
        states = _fetch(store, Path(folder), elsewhere)
        if damaged := [digest for digest, whole in states if whole is False]:
            raise DataError(
                f"{_name(damaged[0])} in the shared store {store.address} is damaged, so the files of its folder are not known; restore it from a backup of the store, or "
                "run a cycle in the clone that made it"
            )
        return with_content(cache, every - set(elsewhere)) | with_content(Path(folder), elsewhere), sum(
            whole is None for _, whole in states
        )


def _whole(file: Path, digest: str) -> bool:
    """Whether a file is there, and is what its name says."""
    return file.is_file() and hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() == digest.removesuffix(".dir")


def _locked() -> list[str]:
    stages = dvc_lock.read(DVC_LOCK).values() if DVC_LOCK.is_file() and DVC_LOCK.stat().st_size else ()
    return sorted({out.md5 for stage in stages for out in stage.outs if out.md5})


def _paths() -> list[str]:
    stages = dvc_lock.read(DVC_LOCK).values() if DVC_LOCK.is_file() and DVC_LOCK.stat().st_size else ()
    return [out.path for stage in stages for out in stage.outs]


def _not_in(store: SharedStore, digests: Iterable[str]) -> list[str]:
    folders = dict[str, list[str]]()
    for digest in sorted(digests):
        folders.setdefault(digest[:2], []).append(digest)
    listed = _each(lambda folder: set(store.names(f"{OBJECTS}/{folder}")), list(folders))
    return [digest for names, members in zip(listed, folders.values(), strict=True) for digest in members if digest[2:] not in names]


def _fetch(store: SharedStore, cache: Path, digests: Iterable[str]) -> list[tuple[str, bool | None]]:
    missing = [digest for digest in digests if not object_file(cache, digest).is_file()]
    return list(zip(missing, _each(lambda digest: _came(store, cache, digest), missing), strict=True))


def _came(store: SharedStore, cache: Path, digest: str) -> bool | None:
    """Whether an object came; False where the store's is not what its name says, None where the store has none."""
    target = object_file(cache, digest)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not store.download(_name(digest), temporary):
            return None
        with open(temporary, "rb") as handle:
            if hashlib.file_digest(handle, "md5").hexdigest() != digest.removesuffix(".dir"):
                return False
        # As DVC protects what is in its cache.
        temporary.chmod(0o444)
        os.replace(temporary, target)
        return True
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror or error}); free some space, then run again") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _each(action: Callable[[_T], _R], items: list[_T]) -> list[_R]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(action, items))


def _name(digest: str) -> str:
    return f"{OBJECTS}/{digest[:2]}/{digest[2:]}"
