"""`redistill gc` in DVC's cache: objects that neither the workspace nor a kept version names, and entries of the run cache that lead to none.

`dvc gc --workspace --projects` does the work. The further project that it gets here is a temporary one. It tracks what the bundles of kept versions
name, and every object that is younger than the retention.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from redistill.io.disk_usage import freed_by_removing
from redistill.operations.params import RetentionParams
from redistill.operations.retention import Item, Kept, Sweep, divided, is_young
from tasks.operations.gc import trash
from tasks.operations.kept.bundle_names import Names
from tasks.running.dvc_objects import objects, with_content
from tasks.running.dvc_stage import cache_directory, dvc

OBJECTS, RUN_CACHE = "DVC objects", "entries of DVC's run cache"


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What is in the cache (digest → file), what the workspace and kept versions need of it, and what stays."""

    cache: Path
    present: dict[str, Path]
    needed: frozenset[str]
    stay: frozenset[str]

    @property
    def to_remove(self) -> frozenset[str]:
        """Digests of objects that nothing needs."""
        return frozenset(self.present) - self.stay


def plan_cache(names: Names, retention: RetentionParams, now_s: float) -> CachePlan | None:
    """None if the cache lies outside of this project, where other projects may use it.

    Raises:
        DataError: the cache is damaged.
    """
    cache = cache_directory()
    if cache is None:
        return None
    present = dict(objects(cache))
    young = {digest for digest, file in present.items() if is_young(file.stat().st_mtime, retention, now_s)}
    needed = with_content(cache, names.objects)
    return CachePlan(cache, present, needed, needed | with_content(cache, young))


def sweep_objects(plan: CachePlan | None, *, dry_run: bool) -> Sweep:
    """Remove what the plan says from the cache.

    Raises:
        StageError: `dvc gc` failed.
    """
    if plan is None:
        return Sweep(OBJECTS, note="DVC's cache lies outside of this project, where other projects may use it: it was left alone")
    to_remove = [plan.present[digest] for digest in sorted(plan.to_remove)]
    size = freed_by_removing(to_remove)
    if to_remove and not dry_run:
        trash.TRASH.mkdir(parents=True, exist_ok=True)
        # In the trash, so that the next gc removes it if this one is killed.
        with tempfile.TemporaryDirectory(dir=trash.TRASH) as scratch:
            dvc("gc", "--workspace", "--force", "--quiet", "--projects", str(_project(Path(scratch), plan)))
        trash.tidy()
        left = [file for file in to_remove if file.exists()]
        size -= freed_by_removing(left)
        to_remove = [file for file in to_remove if file not in left]
    kept = (
        Kept(OBJECTS, "a lock of the workspace or of a kept version names them", len(plan.needed & plan.present.keys())),
        Kept(OBJECTS, "younger than the retention", len((plan.stay - plan.needed) & plan.present.keys())),
    )
    return Sweep(OBJECTS, len(to_remove), size, tuple(k for k in kept if k.count))


def _project(folder: Path, plan: CachePlan) -> Path:
    """A DVC project on the same cache that tracks the objects that stay. The names of its files do not matter: nothing is checked out."""
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text(f"[core]\n    no_scm = True\n[cache]\n    dir = {plan.cache.absolute()}\n", encoding="utf-8")
    outs = [
        {"md5": digest, "hash": "md5", "path": f"object-{number}"} for number, digest in enumerate(sorted(plan.stay & plan.present.keys()))
    ]
    (folder / "kept.dvc").write_text(yaml.safe_dump({"outs": outs}), encoding="utf-8")
    return folder.absolute()


def sweep_run_cache(plan: CachePlan | None, retention: RetentionParams, now_s: float, *, dry_run: bool) -> Sweep:
    """Remove entries whose outputs are not in the cache any more. DVC ignores them already."""
    if plan is None:
        return Sweep(RUN_CACHE)
    items = [
        Item(str(file), file.stat().st_mtime, "their outputs are in the cache" if _usable(file, plan) else None)
        for file in sorted((plan.cache / "runs").glob("??/*/*"))
    ]
    to_remove, kept = divided(RUN_CACHE, items, retention, now_s)
    files = [Path(item.name) for item in to_remove]
    if dry_run:
        return Sweep(RUN_CACHE, len(files), freed_by_removing(files), kept)
    freed, problems = trash.remove(files)
    return Sweep(RUN_CACHE, len(files) - len(problems), freed, kept, "; ".join(problems[:3]))


def _usable(entry: Path, plan: CachePlan) -> bool:
    try:
        outs = [str(out["md5"]) for out in yaml.safe_load(entry.read_text(encoding="utf-8"))["outs"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False
    return all(digest in plan.present and digest in plan.stay for digest in outs)
