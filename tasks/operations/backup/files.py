"""Which files a backup holds. What can be made again at a low price is left out: downloads, work folders, and outputs that DVC's cache has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from redistill.errors import DataError
from redistill.params import Params
from redistill.provenance import dvc_lock
from tasks.operations.kept.bundle_names import Names
from tasks.operations.kept.project_store import is_project_store
from tasks.paths import ARTIFACTS, FORGOTTEN, ROUTER, STATE
from tasks.registry.transitions import FLAGS
from tasks.running.dvc_objects import objects, with_content
from tasks.running.dvc_stage import cache_directory

Files = list[tuple[str, Path]]
_ROOT = (
    "params.yaml",
    "dvc.yaml",
    "dvc.lock",
    "*.lock.json",
    FORGOTTEN.name,
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
    ".dvc/config.local",
    ".dvc/.gitignore",
)
MLFLOW_LOCK = STATE / "mlflow" / "mlflow.lock"
_APPLICATION = ("flows", "tasks", "src/redistill")
_LEFT_OUT = {
    *("work", "bundles", "models", "reproduce", "trash"),  # downloaded or made again
    *("services", "prefect", "runs", "systemd", "logs", "prefect-server"),  # about processes of this machine
    "quick",  # a project of its own (`make demo-quick`)
    "secrets.env",
}
"""What is not taken from ``.redistill``."""


def collected(params: Params, names: Names) -> tuple[Files, list[str]]:
    """Name in the archive and file on disk of everything, and remarks about what is not in it.

    Raises:
        DataError: a folder cannot be read, or DVC's cache is damaged.
    """
    files: dict[str, Path] = {}
    for pattern in _ROOT:
        files |= {file.as_posix(): file for file in sorted(Path().glob(pattern)) if file.is_file()}
    for folder in _APPLICATION:
        files |= {file.as_posix(): file for file in _below(Path(folder))}
    inputs, outside = _inputs(params)
    files |= inputs
    files |= {file.as_posix(): file for file in _state()}
    files |= {file.as_posix(): file for file in _artifacts()}
    data, note = _dvc(names)
    notes = [f"{', '.join(outside)}: outside of the project, so not in the archive"] if outside else []
    if (STATE / "secrets.env").is_file():
        notes.append(f"{STATE}/secrets.env is not in the archive; keep its content where you keep secrets")
    return sorted((files | data).items()), [*notes, *note]


def _inputs(params: Params) -> tuple[dict[str, Path], list[str]]:
    """Data, licence terms and local models that params.yaml names."""
    named = [source.path.removeprefix("hf:") for source in params.data.files] + [source.traffic for source in params.data.traffic]
    named += [*params.benchmark.files, *(review.terms for review in params.governance.licenses), params.teacher.model, params.student.model]
    files: dict[str, Path] = {}
    outside: list[str] = []
    for path in dict.fromkeys(map(os.path.normpath, named)):
        if not Path(path).exists():
            continue  # a hub id, a package, or a name such as `teacher`
        if os.path.isabs(path) or path.startswith(".."):
            outside.append(path)
            continue
        files |= {file.as_posix(): file for file in _below(Path(path))}
    return files, outside


def _state() -> Iterator[Path]:
    with_mlflow = is_project_store()
    for entry in sorted(STATE.iterdir()):
        # Locks are about a moment, and `tmp…` are scratch folders of processes that work, or were killed.
        skipped = (
            entry.name in _LEFT_OUT
            or entry.suffix == ".lock"
            or entry.name.startswith("tmp")
            or (entry.name == "mlflow" and not with_mlflow)
        )
        if not skipped:
            # What SQLite keeps beside a database is part of the copy that is made of it.
            yield from (file for file in _below(entry) if not _beside_a_database(file) and file != ROUTER)


def _beside_a_database(file: Path) -> bool:
    """What SQLite and the maker of MLflow's store keep beside a database is about a moment; the copy of the database is whole without it."""
    name = next((file.name.removesuffix(end) for end in ("-wal", "-shm", "-journal") if file.name.endswith(end)), None)
    return file == MLFLOW_LOCK or (name is not None and file.with_name(name).is_file())


def _artifacts() -> Iterator[Path]:
    """What no stage made: the route, the report, the result of a search. Outputs of stages come back from DVC's cache."""
    lock = Path("dvc.lock")
    stages = dvc_lock.read(lock).values() if lock.is_file() and lock.stat().st_size else ()
    outs = {Path(out.path) for stage in stages for out in stage.outs}
    for file in _below(ARTIFACTS):
        if not outs & {file, *file.parents} and file != FLAGS.with_suffix(".lock"):
            yield file


def _dvc(names: Names) -> tuple[dict[str, Path], list[str]]:
    """Objects of the cache that the workspace and kept versions name, and the entries of the run cache."""
    cache = cache_directory()
    if cache is None:
        return {}, ["DVC's cache lies outside of the project, so it is not in the archive: back it up itself, or use `dvc push`"]
    present = dict(objects(cache))
    needed = with_content(cache, names.objects)
    files = {present[digest].as_posix(): present[digest] for digest in needed & present.keys()}
    files |= {file.as_posix(): file for file in _below(cache / "runs")}
    lock = Path("dvc.lock")
    stages = dvc_lock.read(lock).values() if lock.is_file() and lock.stat().st_size else ()
    missing = [out.path for stage in stages for out in stage.outs if out.md5 not in present and out.path not in _UNCACHED]
    note = f"{len(missing)} outputs of dvc.lock are not in DVC's cache ({', '.join(missing[:3])}); `dvc commit` puts what is in the workspace there"
    return files, [note] if missing else []


_UNCACHED = ("code.lock.json",)


def _below(path: Path) -> Iterator[Path]:
    """Regular files of a tree, or the file itself. Links are followed to files, not to folders.

    Raises:
        DataError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); fix its permissions, then back up again") from error

    if path.is_file():
        yield path
    for folder, below, names in os.walk(path, onerror=refuse) if path.is_dir() else ():
        below[:] = sorted(name for name in below if name != "__pycache__")
        yield from (file for name in sorted(names) if (file := Path(folder, name)).is_file())
