"""Reads ``dvc.lock``, and computes DVC's digests without DVC, so that an audit is independent of it.

Source: DVC 3 documentation, "dvc.lock file" and "Structure of the cache directory".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from redistill.errors import DataError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""A cycle reads the file after each stage; the loader in C takes a tenth of the time."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A path that DVC knows by its digest. A digest that ends in ``.dir`` is that of a folder's list of files."""

    path: str
    md5: str


@dataclass(frozen=True, slots=True)
class LockedStage:
    name: str
    deps: tuple[Tracked, ...]
    outs: tuple[Tracked, ...]
    params: tuple[str, ...]
    """Files that it reads keys of; ``params.yaml`` and the locks."""
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    """For each of these files, the keys that it reads, with the values that it ran with."""


def read(path: Path) -> dict[str, LockedStage]:
    """The stages of a ``dvc.lock``.

    Raises:
        DataError: missing, or no such file.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - a SafeLoader
        # Before its first stage, DVC may have written the schema alone.
        stages: dict[str, Any] = {} if tree.keys() == {"schema"} else tree["stages"]
        return {
            name: LockedStage(
                name, _tracked(body, "deps"), _tracked(body, "outs"), tuple(body.get("params", ())), dict(body.get("params", {}))
            )
            for name, body in stages.items()
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a dvc.lock ({type(error).__name__}: {error}); restore it from git, or run a cycle") from None


def _tracked(body: dict[str, Any], part: str) -> tuple[Tracked, ...]:
    return tuple(Tracked(x["path"], x["md5"]) for x in body.get(part, ()))


def ancestors(stages: dict[str, LockedStage], last: str, locked_from: dict[str, str] | None = None) -> list[LockedStage]:
    """The stages that ``last`` depends on, and itself, in the order in which they run.

    ``locked_from`` names, for a lock file that stages read as params, the stage whose output it locks: DVC does not know of that edge.

    Raises:
        DataError: ``last`` is not among them.
    """
    if last not in stages:
        raise DataError(f"dvc.lock has no stage {last}; its stages are {', '.join(sorted(stages)) or 'none'}")
    made_by = {out.path: stage for stage in stages.values() for out in stage.outs}
    ordered: list[LockedStage] = []

    def visit(stage: LockedStage) -> None:
        for dep in stage.deps:
            maker = made_by.get(dep.path) or next((s for path, s in made_by.items() if dep.path.startswith(path + "/")), None)
            if maker is not None and maker not in ordered:
                visit(maker)
        for file in stage.params:
            locked = stages.get((locked_from or {}).get(file, ""))
            if locked is not None and locked not in ordered:
                visit(locked)
        if stage not in ordered:
            ordered.append(stage)

    visit(stages[last])
    return ordered


def md5_of(path: Path) -> str | None:
    """DVC's digest of a file or folder; None where there is none."""
    if path.is_file():
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "md5").hexdigest()
    if not path.is_dir():
        return None
    files = sorted((p.relative_to(path).as_posix(), p) for p in path.rglob("*") if p.is_file())
    listed = [{"md5": md5_of(p), "relpath": name} for name, p in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"  # noqa: S324 - DVC's choice


def cached(cache: Path, md5: str) -> bool | None:
    """Whether DVC's cache holds this digest whole: True, False where a file's content is another, None where something is not there."""
    entry = cache / "files" / "md5" / md5[:2] / md5[2:]
    if not entry.is_file():
        return None
    if not md5.endswith(".dir"):
        return md5_of(entry) == md5
    content = entry.read_bytes()
    if hashlib.md5(content).hexdigest() != md5.removesuffix(".dir"):  # noqa: S324 - DVC's choice
        return False
    states = [cached(cache, item["md5"]) for item in json.loads(content)]
    return False if False in states else None if None in states else True
