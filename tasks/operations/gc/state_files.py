"""`redistill gc` in `.redistill`: what stages, downloads and searches leave there. All of it can be made again, or belongs to work that was given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from redistill.errors import DataError
from redistill.io.digests import canonical_digest
from redistill.io.disk_usage import freed_by_removing, last_change_s
from redistill.io.json import read_json
from redistill.operations.retention import Item, Sweep, divided
from redistill.params import Params
from tasks.operations.gc import trash
from tasks.operations.kept.versions import KeptVersions
from tasks.paths import ARTIFACTS, STATE

Need = Callable[[Path], str | None]
"""What needs a file or folder, whatever its age."""

_WORKSPACE = "the workspace"


def sweep_files(params: Params, kept: KeptVersions, now_s: float, *, dry_run: bool) -> list[Sweep]:
    """One result for each kind of folder."""
    sweeps = [_emptied(dry_run=dry_run)]
    for kind, paths, need in _kinds(kept):
        items = [Item(str(path), last_change_s(path), need(path)) for path in paths]
        to_remove, stay = divided(kind, items, params.retention, now_s)
        files = [Path(item.name) for item in to_remove]
        if dry_run:
            sweeps.append(Sweep(kind, len(files), freed_by_removing(files), stay))
            continue
        freed, problems = trash.remove(files)
        sweeps.append(Sweep(kind, len(files) - len(problems), freed, stay, "; ".join(problems[:3])))
    return sweeps


def _kinds(kept: KeptVersions) -> Iterator[tuple[str, list[Path], Need]]:
    def nothing(_: Path) -> str | None:
        return None

    yield "unfinished stages", _in("work"), nothing
    # Each process loads bundles and versions into folders of its own and removes them at its end.
    yield "loaded bundles", _in("bundles"), nothing
    yield "loaded models", _in("models"), lambda path: _model_needed(path, kept)
    # An earlier teacher's probabilities for the slices that stay with it; its completions stay by the same rule.
    yield "soft targets of earlier teachers", _in("store/soft_targets"), lambda path: _teacher_needed(path, kept)
    yield "snapshots of traffic", _in("snapshots"), lambda path: "a lock names it" if path.stem in kept.names.snapshots else None
    yield "benchmark results", _in("evaluations"), lambda path: _measured(path, kept)
    yield "timings", _in("timings"), nothing
    yield "code lists", _in("code", "*-*.json"), lambda path: _WORKSPACE if _digest_part(path) in _code(kept) else None
    yield "searches", _in("tune"), _last_search
    yield "checkouts of reproduce", _in("reproduce"), nothing
    # `tempfile` names them; a process that ends by itself removes its own.
    yield "scratch folders", [path for path in _in("", "tmp*") if path.is_dir()], nothing
    yield "logs", [*_in("logs"), *_in("services/logs")], nothing


def _in(folder: str, pattern: str = "*") -> list[Path]:
    """What a folder of ``.redistill`` holds.

    Raises:
        DataError: it cannot be read.
    """
    place = STATE / folder
    try:
        return sorted(place.glob(pattern)) if place.is_dir() and list(place.iterdir()) else []
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror or error}); fix its permissions, then run gc again") from error


def _emptied(*, dry_run: bool) -> Sweep:
    """What an interrupted gc left in the trash."""
    left = trash.left()
    if dry_run:
        return Sweep("left by an interrupted gc", len(left), freed_by_removing(left))
    freed, problems = trash.empty()
    return Sweep("left by an interrupted gc", len(left) - len(problems), freed, note="; ".join(problems[:3]))


def _teacher_needed(path: Path, kept: KeptVersions) -> str | None:
    return "a lock or a kept version names this teacher" if path.name in kept.names.teachers else None


def _model_needed(path: Path, kept: KeptVersions) -> str | None:
    """Models of params have the name of their package file, or a digest of their registry address. All others were loaded for a moment."""
    name = path.name.rpartition("-")[0]
    for model in kept.names.models:
        stem = Path(model).stem if model.startswith("package:") else None
        if name == stem or path.name == canonical_digest([model])[:16]:
            return "params.yaml or the params of a kept version"
    return None


def _measured(path: Path, kept: KeptVersions) -> str | None:
    """The result for a model that stays: a new measurement can differ a little, and would then be a new look at the held-out rows."""
    files = [file for name in ("report.json", "summary.json") if (file := path / name).is_file()]
    model = read_json(files[0]).get("model_digest") if files else None
    return "a model that stays was measured" if model in kept.names.measured else None


def _code(kept: KeptVersions) -> frozenset[str]:
    return frozenset(digest[:16] for digest in kept.names.code)


def _digest_part(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def _last_search(path: Path) -> str | None:
    """The search whose result is in the workspace can still be continued."""
    result = ARTIFACTS / "tune" / "tune.json"
    return _WORKSPACE if result.is_file() and read_json(result).get("study") == path.name.partition(".")[0] else None
