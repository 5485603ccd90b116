"""Why DVC runs a stage again, in words: from ``dvc status``, ``dvc.lock`` and ``code.lock.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from redistill.io.json import read_json
from redistill.provenance.dvc_lock import LockedStage
from tasks.locking.code_lock import edited_files
from tasks.paths import CODE, LOCK, SOURCES

_LOCKS = {str(LOCK): "the teacher", str(SOURCES): "the sources"}


def reasons(stage: str, status: list[Any], locked: LockedStage | None) -> Iterator[str]:
    """One short phrase for each change. ``status`` is the stage's entry in ``dvc status --json``, ``locked`` its entry in ``dvc.lock``."""
    if locked is None:
        yield "it has not run here before"
        return
    for part in status:
        if part == "changed command":
            yield "its command changed"
        elif isinstance(part, dict):
            for path, change in part.get("changed deps", {}).items():
                yield from _dependency(stage, path, change, locked)
            yield from _outputs(part.get("changed outs", {}))


def _outputs(changed: Mapping[str, str]) -> Iterator[str]:
    for change in dict.fromkeys(changed.values()):
        paths = [path for path, each in changed.items() if each == change]
        yield f"{paths[0]} was {change}" if len(paths) == 1 else f"{len(paths)} of its outputs were {change}"


def _dependency(stage: str, path: str, change: Any, locked: LockedStage) -> Iterator[str]:
    if path == str(CODE):
        yield from _code(stage, locked.values.get(path, {}))
    elif path in _LOCKS:
        yield f"{_LOCKS[path]} changed"
    elif isinstance(change, dict):
        yield f"{path}: {', '.join(sorted(change))}"
    else:
        yield f"{path} {'is new' if change == 'new' else f'was {change}'}"


def _code(stage: str, before: Mapping[str, Any]) -> Iterator[str]:
    name = stage.partition("@")[0]
    then, now = before.get(f"stages.{name}"), read_json(CODE)["stages"].get(name)
    if then is None or now is None:
        yield "its code was not recorded before"
        return
    for package in sorted(then["packages"].keys() | now["packages"].keys()):
        versions = then["packages"].get(package), now["packages"].get(package)
        if versions[0] != versions[1]:
            yield f"{package} {versions[0] or 'none'} → {versions[1] or 'none'}"
    if then["digest"] != now["digest"]:
        files = edited_files(name, then["digest"], now["digest"])
        yield f"code: {', '.join(files[:3])}{f' and {len(files) - 3} more' if len(files) > 3 else ''}" if files else "its code changed"
