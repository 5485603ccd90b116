"""`redistill restore`: a project from an archive, in an empty directory or in place of the state of the same project."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redistill.errors import ConfigError, StageError
from redistill.operations import restored_files
from redistill.operations.archive import Header, read_header, unpack
from redistill.provenance import dvc_lock, mlflow_names
from redistill.runtime.processes import read_record
from redistill.runtime.running_services import SUPERVISOR
from tasks.operations.backup.mlflow_addresses import move_artifacts
from tasks.paths import FORGOTTEN, STATE
from tasks.running.cycle_lock import no_cycle
from tasks.running.dvc_stage import dvc


def restore(archive: Path, *, force: bool = False) -> dict[str, Any]:
    """Restore into the current directory, and bring the outputs of the stages back from DVC's cache.

    Raises:
        ConfigError: the directory is not empty, or is another project; or an interrupted restore of another archive is there.
        DataError: the archive is damaged, or there is no space; then the directory is as before.
        StageError: a cycle is running here.
    """
    target = Path()
    header = read_header(archive)
    restored_files.check_target(target, archive, header, force=force)
    supervisor = read_record(SUPERVISOR)
    if supervisor is not None and supervisor.process() is not None:
        raise ConfigError(
            "`redistill up` is running here and uses the files that would be replaced; run `redistill down`, then restore again"
        )
    with ExitStack() as stack:
        if STATE.is_dir():
            stack.enter_context(no_cycle("`redistill restore`"))
        folder = stack.enter_context(restored_files.staging(target))
        unfinished = restored_files.interrupted(target)
        if unfinished is None:
            header = _verified(archive, folder)
        elif unfinished != header.id:
            raise ConfigError(f"an interrupted restore of another archive is in {target.absolute()}; run it again with that archive first")
        newer = restored_files.keep_tombstones(target, folder, FORGOTTEN.name)
        restored_files.put_in_place(target, folder)
    notes = _checked_out()
    if newer:
        notes.append(
            f"prompts that were removed after this archive was made: {len(newer)}. The restored files may have them again; run `redistill forget --resume`, "
            f"which removes those with a tombstone ({', '.join(digest[:12] for digest in newer[:5])}{' and more' if len(newer) > 5 else ''})"
        )
    if header.artifact_root is None:
        notes.append("runs, versions and history were on an MLflow server; set MLFLOW_TRACKING_URI to it")
    return {"project": header.project, "created_at": header.created_at, "files": header.files, "bytes": header.bytes, "notes": notes}


def _verified(archive: Path, folder: Path) -> Header:
    """Unpack, verify, and make MLflow's addresses those of this directory."""
    new = restored_files.fresh(folder)
    header = unpack(archive, new)
    database = new / STATE / "mlflow" / "mlflow.db"
    if header.artifact_root is not None and database.is_file():
        move_artifacts(database, header.artifact_root, mlflow_names.project_artifacts(STATE))
    restored_files.mark_verified(folder, header)
    return header


def _checked_out() -> list[str]:
    """The outputs of the stages, from the cache. If that fails, the project is whole all the same: the next cycle takes them from the cache."""
    lock = Path("dvc.lock")
    if not lock.is_file() or not lock.stat().st_size or not Path(".dvc").is_dir():
        return []
    try:
        # dvc.yaml may have stages that this project never runs. Without the option, DVC would report their outputs as missing.
        dvc("checkout", "--quiet", "--force", "--allow-missing")
    except StageError as error:
        return [
            f"outputs of stages could not be brought back: {error}; `dvc checkout` tries again, and `redistill run` makes what is missing"
        ]
    missing = [out.path for stage in dvc_lock.read(lock).values() for out in stage.outs if not Path(out.path).exists()]
    return (
        [f"not in the archive: {', '.join(missing[:5])}; `dvc pull` may bring them, and `redistill run` makes them again"]
        if missing
        else []
    )
