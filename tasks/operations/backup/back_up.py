"""`redistill backup`: one archive with everything that cannot be made again, or only at a high price."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redistill.errors import ConfigError, DataError
from redistill.operations.archive import Header, write_archive
from redistill.params import Params
from redistill.provenance import keys, mlflow_names
from redistill.runtime.service_failures import as_registry_errors
from redistill.version import __version__
from tasks.operations.backup import files as backup_files
from tasks.operations.backup.mlflow_addresses import is_sqlite, snapshot
from tasks.operations.kept.project_store import existing_registry, is_project_store
from tasks.operations.kept.versions import kept_versions
from tasks.paths import STATE
from tasks.registry import transitions
from tasks.running.cycle_lock import no_cycle


def back_up(params: Params, target: Path) -> dict[str, Any]:
    """Write the archive and return what is in it. ``target``: the file to write, or a directory.

    Raises:
        ConfigError: the target exists, has no parent directory, or lies in ``.redistill``.
        StageError: a cycle is running.
        DataError: a file cannot be read, or there is no space; then there is no archive.
        RegistryError: MLflow cannot be reached, or a bundle cannot be read.
    """
    now = dt.datetime.now(dt.UTC)
    archive = _checked(target / f"{params.data.name}-{now:%Y-%m-%d-%H%M%S}.tar.gz" if target.is_dir() else target)
    with no_cycle("`redistill backup`"), ExitStack() as stack:
        client = existing_registry(params)
        if client is not None:
            stack.enter_context(as_registry_errors())
            transitions.recover(client, params)
        kept = kept_versions(client, params, now.timestamp())
        STATE.mkdir(exist_ok=True)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=STATE)))
        with transitions.registry_lock():
            # No promotion is half in the copy: aliases, history and route belong together.
            files, notes = backup_files.collected(params, kept.names)
            files = [(name, _copied(name, file, scratch)) for name, file in files]
        header = Header(
            id=uuid.uuid4().hex,
            project=params.data.name,
            created_at=now.isoformat(timespec="seconds"),
            redistill=__version__,
            artifact_root=mlflow_names.artifact_root(STATE),
            files=len(files),
            bytes=sum(file.stat().st_size for _, file in files),
        )
        write_archive(archive, header, files)
    return {
        "archive": str(archive),
        "project": header.project,
        "files": header.files,
        "bytes": header.bytes,
        "archive_bytes": archive.stat().st_size,
        "has_keys": any(name.startswith(f"{STATE}/keys/") and name.endswith(".pem") for name, _ in files),
        "notes": [*notes, *kept.notes, *_elsewhere()],
    }


def _checked(archive: Path) -> Path:
    if archive.exists():
        raise ConfigError(f"{archive} exists already, and nothing is overwritten; name another file, or a directory")
    if not archive.parent.is_dir():
        raise ConfigError(f"{archive.parent} is not a directory; make it first, or name another one")
    if archive.resolve().is_relative_to(STATE.resolve()):
        raise ConfigError(
            f"{archive} lies in {STATE}, so it would be a part of the next backup; name a place outside of it, best on another disk"
        )
    return archive


def _copied(name: str, file: Path, scratch: Path) -> Path:
    """Copies what others may write without a cycle: databases and the route. Other files do not change."""
    target = scratch / uuid.uuid4().hex
    try:
        if is_sqlite(file):
            snapshot(file, target)
        elif name.startswith(f"{transitions.FLAGS.parent}/"):
            shutil.copy2(file, target)
        else:
            return file
    except OSError as error:
        raise DataError(
            f"{file} cannot be copied ({error.strerror or error}); free some space or fix its permissions, then back up again"
        ) from error
    return target


def _elsewhere() -> list[str]:
    notes = []
    if not is_project_store():
        notes.append(
            f"runs, versions and history are on the MLflow server {mlflow_names.tracking_uri(STATE)}; they are not in the archive: back up the server with its own tools"
        )
    if named := os.environ.get(keys.SIGNING_KEY):
        notes.append(f"{keys.SIGNING_KEY} names a key outside of the project ({named}); it is not in the archive: keep a copy of it")
    return notes
