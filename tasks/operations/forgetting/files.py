"""Removes prompts from the files of the project: what stages wrote, what is remembered, what services logged. Signed bundles and DVC's cache have files of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from redistill.data.forgotten import tombstone_digest
from redistill.io.atomic import replacing
from redistill.operations import traces as tracing
from redistill.operations.traces import Traces
from redistill.provenance import dvc_lock
from tasks.paths import ARTIFACTS, IMPORTS, STATE, TRAFFIC
from tasks.results.memos import remember, remembered

IDS = STATE / "forgotten"
"""For each file that had a removed prompt, by DVC's digest: digests of the ids that it had. They say which versions it trained."""
_EVALUATIONS = STATE / "evaluations"
_LEFT_OUT = ("keys", "bundles", "models", "mlflow", "prefect", "forgotten", "memo-signatures", "cycle.lock")
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".sqlite", ".db", ".sqlite-wal", ".db-wal")


def project_files() -> Iterator[Path]:
    """Files that may hold text of prompts, without traffic, bundles, memos and DVC's cache."""
    for file in sorted(ARTIFACTS.rglob("*")):
        if _readable(file):
            yield file
    for file in sorted(STATE.rglob("*")):
        if file.relative_to(STATE).parts[0] not in (*_LEFT_OUT, TRAFFIC.name, IMPORTS.name, _EVALUATIONS.name) and _readable(file):
            yield file
    # Artifacts of runs that are in no bundle, such as a report.
    for file in sorted((STATE / "mlflow").rglob("*")):
        if _readable(file) and "evidence" not in file.parts:
            yield file


def _readable(file: Path) -> bool:
    return file.is_file() and not file.is_symlink() and file.suffix not in _WEIGHTS


def memos() -> Iterator[Path]:
    """Remembered results; each is a signed folder."""
    yield from sorted(path for path in _EVALUATIONS.glob("*") if path.is_dir())


def clean_memo(memo: Path, traces: Traces) -> int:
    """Remove prompts from remembered results, and sign them again if they were as they had been signed."""
    files = [file for file in sorted(memo.rglob("*")) if _readable(file) and tracing.holds(file, traces)]
    if not files:
        return 0
    sound = remembered(memo)
    for file in files:
        tracing.remove(file, traces)
    if sound:
        remember(memo)
    return len(files)


def remove_loaded(traces: Traces) -> None:
    """Remove copies of bundles that were loaded to be read, by this process or one that was killed, if they hold a prompt."""
    for folder in sorted(path for path in (STATE / "bundles").glob("*") if path.is_dir()):
        if any(file.is_file() and tracing.holds(file, traces) for file in sorted(folder.rglob("*"))):
            shutil.rmtree(folder, ignore_errors=True)


def changed_outputs(files: list[Path]) -> frozenset[str]:
    """DVC's digests of the workspace's outputs of which one of these files is a part, as ``dvc.lock`` has them."""
    lock = Path("dvc.lock")
    if not lock.is_file() or not lock.stat().st_size:
        return frozenset()
    outs = [out for stage in dvc_lock.read(lock).values() for out in stage.outs]
    return frozenset(out.md5 for out in outs if any(file == Path(out.path) or Path(out.path) in file.parents for file in files))


def note_ids(digest: str, file: Path) -> None:
    """Remember which prompts a file had, as digests, before it goes."""
    if (target := ids_file(digest)).is_file() or not (ids := tracing.ids_in(file)):
        return
    with replacing(target) as temporary:
        temporary.write_text(json.dumps(sorted(map(tombstone_digest, ids))), encoding="utf-8")


def note_list(digest: str, folder: Path) -> None:
    """Remember which files a folder had, as DVC lists them."""
    with replacing(ids_file(digest)) as temporary:
        temporary.write_bytes(folder.read_bytes())


def ids_file(digest: str) -> Path:
    return IDS / f"{digest}.json"
