"""``code.lock.json``: the code and the package versions that each stage runs on, for DVC to compare."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from redistill.errors import StageError
from redistill.io.json import read_json, write_json
from redistill.provenance.code_identity import CodeIdentity, code_identity, folders, remembered
from redistill.version import __version__
from tasks.paths import CODE, STATE

LOCKS_CODE = "lock_code"
"""The stage that writes the lock, so that ``dvc repro`` by hand sees edited code too. It has no identity itself."""


def stage_identity(stage: str) -> CodeIdentity:
    """What ``stage`` (without an arm) runs on now, in this project."""
    return _identities([stage])[stage]


def _identities(stages: Iterable[str]) -> dict[str, CodeIdentity]:
    packages = folders("redistill", "tasks")
    with remembered(STATE / "code" / "parsed.json"):
        return {name: code_identity(f"tasks.stages.{name}", packages) for name in stages}


def stage_names() -> list[str]:
    """Every stage of this project, by its file."""
    return sorted(f.stem for f in (folders("tasks")["tasks"] / "stages").glob("*.py") if f.stem not in ("__init__", LOCKS_CODE))


def lock_code(target: Path = CODE) -> None:
    """Write the lock, unless it already says the same.

    ``stages`` is what DVC compares. ``files`` says for each file which stages run again when it is edited.
    """
    identities = _identities(stage_names())
    for name, identity in identities.items():
        if not (kept := _kept(name, identity.digest)).is_file():
            write_json(kept, identity.files)
    lock = _lock(identities)
    if not target.is_file() or read_json(target) != lock:
        write_json(target, lock)


def _kept(stage: str, digest: str) -> Path:
    """A list of the files behind a digest, so that a later change can be named by file."""
    return STATE / "code" / f"{stage}-{digest[:16]}.json"


def edited_files(stage: str, before: str, after: str) -> list[str]:
    """Files that differ between two digests of a stage's code; empty where one of the two was not locked on this machine."""
    lists = [_kept(stage, digest) for digest in (before, after)]
    if not all(file.is_file() for file in lists):
        return []
    then, now = (read_json(file) for file in lists)
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


def _lock(identities: dict[str, CodeIdentity]) -> dict[str, Any]:
    files: dict[str, dict[str, Any]] = {}
    for name, identity in identities.items():
        for file, digest in identity.files.items():
            files.setdefault(file, {"digest": digest, "stages": []})["stages"].append(name)
    return {
        "redistill": __version__,
        "stages": {name: {"digest": i.digest, "packages": i.packages} for name, i in identities.items()},
        "files": dict(sorted(files.items())),
    }


def check_code_is_locked(stage: str) -> None:
    """Stop a stage whose code is not what the lock says: DVC would record its result under the wrong code.

    Raises:
        StageError: the code was edited after it was locked.
    """
    if stage == LOCKS_CODE:
        return
    if not CODE.is_file():
        lock_code()
    locked, now = read_json(CODE), stage_identity(stage)
    entry = locked.get("stages", {}).get(stage)
    if entry is None or (entry["digest"], entry["packages"]) == (now.digest, now.packages):
        return
    files = locked.get("files", {})
    edited = [name for name, digest in now.files.items() if files.get(name, {}).get("digest") != digest]
    raise StageError(
        f"the code of stage {stage} is not the code that {CODE} names ({', '.join(edited[:3]) or 'its packages or its list of files'}); "
        "run `redistill lock`, or run the cycle again"
    )
