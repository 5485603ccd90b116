"""Puts unpacked files into a project's directory so that a half-restored project never looks like a whole one.

Files are unpacked beside their place and verified. Then each is renamed into its place, ``params.yaml`` last: without it, no command takes the directory
for a project. A restore that was interrupted between two renames is completed by the same command.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redistill.config.file import PARAMS, read_tree
from redistill.data.forgotten import read_tombstones, unite
from redistill.errors import ConfigError, DataError
from redistill.io.json import read_json, write_json
from redistill.operations.archive import Header

STAGING = ".redistill-restore"
_NEW, _OLD, _VERIFIED, _NEWER = "new", "old", "verified.json", "newer.json"
WHOLE = (".redistill", ".dvc", "artifacts", "flows", "tasks")
"""Folders that are replaced as a whole. Files of other folders are replaced one by one, because a person may have put more files there."""


def check_target(target: Path, archive: Path, header: Header, *, force: bool) -> None:
    """Check that a restore may write here.

    Raises:
        ConfigError: the directory is not empty; or with ``force``, it is not the same project.
    """
    entries = [p for p in target.iterdir() if p.name != STAGING and p.resolve() != archive.resolve()]
    if not entries or interrupted(target) is not None:
        return
    place = target.resolve()
    if not force:
        raise ConfigError(
            f"{place} is not empty ({entries[0].name}{' and more' if len(entries) > 1 else ''}); restore into an empty directory with -C DIR, "
            "or replace the state of the same project with --force"
        )
    name = (read_tree(target / PARAMS).get("data") or {}).get("name")
    if name != header.project:
        raise ConfigError(
            f"{place} is project {name}, and the archive is of project {header.project}; --force replaces only the state of the same project"
        )


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """The folder inside the directory in which a restore works.

    Raises:
        ConfigError: another restore works there.
        DataError: it cannot be written.
    """
    folder = target / STAGING
    try:
        folder.mkdir(exist_ok=True)
        handle = open(folder / "lock", "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise DataError(
            f"{target.absolute()} cannot be written ({error.strerror or error}); fix its permissions, then restore again"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another restore is working in {target.absolute()}; wait for it to end") from None
        try:
            yield folder
        except BaseException:
            # Once verified, the same command completes it. Before that, what was unpacked is of no use.
            if not (folder / _VERIFIED).is_file():
                shutil.rmtree(folder, ignore_errors=True)
            raise


def interrupted(target: Path) -> str | None:
    """Id of the archive that an interrupted restore has verified and not yet put into its place."""
    marker = target / STAGING / _VERIFIED
    return str(read_json(marker)["id"]) if marker.is_file() else None


def fresh(folder: Path) -> Path:
    """An empty folder to unpack into, without what an interrupted restore left."""
    for part in (_NEW, _OLD):
        shutil.rmtree(folder / part, ignore_errors=True)
    (folder / _NEWER).unlink(missing_ok=True)
    (folder / _NEW).mkdir()
    return folder / _NEW


def mark_verified(folder: Path, header: Header) -> None:
    """From now on the restore is completed, also after an interruption."""
    write_json(folder / _VERIFIED, {"id": header.id})


def keep_tombstones(target: Path, folder: Path, name: str) -> list[str]:
    """Add the directory's tombstones to those of the archive, and return the digests of prompts that were removed after the archive was made.

    Also a restore that goes on after an interruption does so: nothing of the directory is deleted before all files are in their places.

    Raises:
        DataError: a file of tombstones is damaged, or the disk refuses the write.
    """
    archived, note = folder / _NEW / name, folder / _NEWER
    noted = list(read_json(note)["digests"]) if note.is_file() else []
    # After an interruption, the file of the archive may already be in its place, with all of them.
    if (target / name).is_file() and (archived.is_file() or not note.is_file()):
        known = {stone.digest for stone in read_tombstones(archived)}
        noted = sorted({*noted, *({stone.digest for stone in read_tombstones(target / name)} - known)})
        write_json(note, {"digests": noted})
        if archived.is_file():
            unite(archived, target / name)
    return noted


def put_in_place(target: Path, folder: Path) -> None:
    """Rename everything into its place. What it replaces is deleted at the end.

    Raises:
        DataError: a rename failed, or a link in the directory leads out of it; the same command goes on from there.
    """
    new, old = folder / _NEW, folder / _OLD
    units = sorted(_units(new), key=lambda unit: unit == Path(PARAMS))
    for unit in units:
        if not _existing_parent(target / unit).resolve().is_relative_to(target.resolve()):
            raise DataError(f"{unit.parent} in {target.resolve()} is a link that leads out of it; remove the link, then restore again")
    try:
        if len(units) > 1 and (target / PARAMS).exists():
            _rename(target / PARAMS, old / PARAMS)
        for unit in units:
            if (target / unit).exists() or (target / unit).is_symlink():
                _rename(target / unit, old / unit)
            _rename(new / unit, target / unit)
        (folder / _VERIFIED).unlink(missing_ok=True)
        shutil.rmtree(folder)
    except OSError as error:
        raise DataError(
            f"could not put the restored files into {target.resolve()} ({error.strerror or error}); fix this, then run the same command again"
        ) from error


def _units(new: Path) -> Iterator[Path]:
    """What is renamed in one step: whole folders, and single files of the others."""
    for entry in sorted(new.iterdir()):
        if entry.name in WHOLE or entry.is_file():
            yield entry.relative_to(new)
        else:
            yield from (file.relative_to(new) for file in sorted(entry.rglob("*")) if file.is_file())


def _existing_parent(path: Path) -> Path:
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    return parent


def _rename(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    os.replace(source, target)
