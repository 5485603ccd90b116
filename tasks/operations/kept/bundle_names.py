"""What the lock files of a bundle, or of the workspace, name: everything that must stay so that the version can be verified and built again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from redistill.errors import DataError
from redistill.io.json import read_json
from redistill.provenance import dvc_lock
from tasks.paths import CODE, LOCK, SOURCES

FILES = ("dvc.lock", LOCK.name, CODE.name, SOURCES.name, "params.yaml", "judgement.json")


@dataclass(frozen=True, slots=True)
class Names:
    """Digests of DVC objects, of teachers that write completions, of stage code, of models that were measured; the models of its params, and snapshots of traffic."""

    objects: frozenset[str] = frozenset()
    teachers: frozenset[str] = frozenset()
    code: frozenset[str] = frozenset()
    measured: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    snapshots: frozenset[str] = frozenset()

    def __or__(self, other: Names) -> Names:
        return Names(
            self.objects | other.objects,
            self.teachers | other.teachers,
            self.code | other.code,
            self.measured | other.measured,
            self.models | other.models,
            self.snapshots | other.snapshots,
        )


def names_in(folder: Path) -> Names:
    """The names in those of ``FILES`` that the folder has.

    Raises:
        DataError: one of them cannot be read.
    """
    lock = folder / "dvc.lock"
    stages = dvc_lock.read(lock) if lock.is_file() and lock.stat().st_size else {}
    try:
        return Names(
            objects=frozenset(tracked.md5 for stage in stages.values() for tracked in (*stage.outs, *stage.deps)),
            teachers=_teachers(_json(folder / LOCK.name)),
            code=_code(_json(folder / CODE.name), stages.values()),
            measured=frozenset(_json(folder / "judgement.json").get("models", {}).values()),
            models=_models(folder / "params.yaml"),
            snapshots=frozenset(each["sha256"] for each in _json(folder / SOURCES.name).get("sources", []) if "traffic" in each),
        )
    except (KeyError, TypeError, AttributeError, OSError, yaml.YAMLError) as error:
        raise DataError(
            f"the lock files in {folder} cannot be read ({type(error).__name__}: {error}); restore them, then try again"
        ) from None


def _json(file: Path) -> dict[str, Any]:
    return dict(read_json(file)) if file.is_file() else {}


def _teachers(lock: dict[str, Any]) -> frozenset[str]:
    return frozenset([*lock.get("answers_from", {}).values(), *([lock["current"]["digest"]] if "current" in lock else [])])


def _code(lock: dict[str, Any], stages: Any) -> frozenset[str]:
    """Digests of the locked code, and of the code that the stages of ``dvc.lock`` ran with."""
    ran = [entry for stage in stages for entry in stage.values.get(CODE.name, {}).values() if isinstance(entry, dict)]
    return frozenset(entry["digest"] for entry in (*lock.get("stages", {}).values(), *ran))


def _models(params: Path) -> frozenset[str]:
    # Read as YAML only: the params of an old bundle may have keys that this version of redistill does not know.
    tree = yaml.safe_load(params.read_text(encoding="utf-8")) if params.is_file() else {}
    named = [(tree.get(section) or {}).get("model") for section in ("teacher", "student")]
    return frozenset(model for model in named if isinstance(model, str))
