"""What holds the prompts of a removal now, and what the command says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redistill.data.traffic.shards import shards
from redistill.operations import traces as tracing
from redistill.operations.traces import MOST_BYTES, Traces
from redistill.params import Params
from redistill.teacher.completion_store import CompletionStore
from tasks.operations.forgetting import cache, files
from tasks.operations.forgetting.subject import Subject
from tasks.operations.gc.databases import STORE
from tasks.operations.traffic_folders import traffic_folders
from tasks.paths import STATE
from tasks.registry import bundle_changes
from tasks.registry.client import RegistryClient

_MOST_SHOWN = 5


@dataclass(frozen=True)
class Plan:
    """What holds the prompts now. ``unnamed`` counts stored completions of which nobody recorded the prompt; ``unread`` are too large to be read."""

    subject: Subject
    folders: tuple[Path, ...]
    traffic: tuple[Path, ...]
    workspace: tuple[Path, ...]
    memos: tuple[Path, ...]
    cache: cache.Held
    bundles: dict[str, bundle_changes.Changed]
    completions: int
    unnamed: int
    unread: tuple[Path, ...]

    @property
    def traces(self) -> Traces:
        return self.subject.traces


def plan_of(client: RegistryClient | None, params: Params, subject: Subject) -> Plan:
    """Look everywhere; nothing changes."""
    traces, folders, held = subject.traces, traffic_folders(params), cache.held(subject.traces)
    traffic = tuple(holding((file for folder in folders for file in shards(folder)), traces))
    bundles = {} if client is None else bundle_changes.holding(client, params, traces)
    return Plan(
        subject,
        folders,
        traffic,
        tuple(file for file in holding(files.project_files(), traces) if file not in traffic),
        tuple(memo for memo in files.memos() if any(holding((f for f in memo.rglob("*") if f.is_file()), traces))),
        held,
        bundles,
        in_store(traces, remove=False),
        _unnamed(),
        (*filter(tracing.too_large, _every_file()), *held.unread),
    )


def holding(paths: Iterable[Path], traces: Traces) -> list[Path]:
    return [file for file in paths if tracing.holds(file, traces)]


def _every_file() -> Iterator[Path]:
    """Files of the project, remembered results, and bundles that were just loaded."""
    yield from files.project_files()
    for folder in (*files.memos(), STATE / "bundles"):
        yield from (file for file in sorted(folder.rglob("*")) if file.is_file())


def in_store(traces: Traces, *, remove: bool) -> int:
    """How many stored completions are of these prompts; with ``remove``, they go."""
    if not STORE.is_file():
        return 0
    store = CompletionStore(STORE)
    try:
        return store.forget_prompts(sorted(traces.ids)) if remove else store.count_of(sorted(traces.ids))
    finally:
        store.close()


def _unnamed() -> int:
    if not STORE.is_file():
        return 0
    store = CompletionStore(STORE)
    try:
        return store.unnamed()
    finally:
        store.close()


def result_of(plan: Plan, problems: list[str]) -> dict[str, Any]:
    """What was removed, what is left, and what the command does not reach."""
    return {
        "prompts": sorted(plan.traces.ids),
        "traffic": [str(file) for file in plan.traffic],
        "completions": plan.completions,
        "files": [str(file) for file in (*plan.workspace, *plan.memos)],
        "cache_objects": sorted(plan.cache.files),
        "bundles": [asdict(bundle) for bundle in plan.bundles.values()],
        "problems": problems,
        "notes": list(_notes(plan)),
    }


def _notes(plan: Plan) -> Iterator[str]:
    yield from plan.subject.notes
    if plan.subject.sources:
        yield f"remove it from your own data too, which redistill never changes: {', '.join(plan.subject.sources)}"
    if plan.unread:
        shown = ", ".join(map(str, plan.unread[:_MOST_SHOWN]))
        more = f" and {len(plan.unread) - _MOST_SHOWN} more" if len(plan.unread) > _MOST_SHOWN else ""
        yield f"not read, because text over {MOST_BYTES >> 20} MiB is not searched: {shown}{more}; look at them yourself"
    if plan.unnamed:
        yield (
            f"{plan.unnamed} completions in the store were stored by an earlier version without their prompt, so they may be of it; a cycle records those that "
            "it still uses, then run the command again"
        )
    yield "backups, a DVC remote and other machines may still have it; run the command there too, and make a new backup"
    if plan.workspace or plan.cache.files:
        yield "files of the last cycle have changed; the next `redistill run` makes them again without the prompt"
