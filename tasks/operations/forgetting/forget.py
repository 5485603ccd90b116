"""``redistill forget``: removes a prompt from everything that this project keeps of it, and makes sure that it does not come back.

The order makes every interruption harmless: first the tombstone, which lists what will be gone, then the removal. Run again, the command completes what is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redistill.data.forgotten import bury, tombstone_digest
from redistill.data.traffic.shards import shards
from redistill.errors import ConfigError
from redistill.operations import traces as tracing
from redistill.operations.traces import Traces
from redistill.params import Params
from redistill.serving.traffic.lock import traffic_lock
from redistill.teacher.completion_store import CompletionStore
from tasks.operations.forgetting import cache, files
from tasks.operations.forgetting.subject import Subject, subject_of
from tasks.operations.forgetting.trained import trained
from tasks.operations.gc.databases import STORE
from tasks.operations.kept.project_store import existing_registry, mlflow_errors
from tasks.paths import FORGOTTEN, TRAFFIC
from tasks.registry import bundle_changes, transitions
from tasks.registry.client import RegistryClient
from tasks.registry.forgotten_objects import signed
from tasks.running.cycle_lock import no_cycle


@dataclass(frozen=True)
class Plan:
    """What holds the prompts now."""

    subject: Subject
    traffic: tuple[Path, ...]
    workspace: tuple[Path, ...]
    memos: tuple[Path, ...]
    cache: cache.Held
    bundles: dict[str, bundle_changes.Changed]
    completions: int
    unnamed: int
    """Stored completions of which nobody recorded the prompt."""

    @property
    def traces(self) -> Traces:
        return self.subject.traces


def forget(params: Params, name: str, reason: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Remove the prompts that ``name`` means, or with ``dry_run`` only say where they are.

    Raises:
        ConfigError: no reason.
        DataError: nothing has this name, or a file cannot be changed.
        StageError: a cycle is running.
        RegistryError: MLflow failed.
    """
    if not reason.strip() and not dry_run:
        raise ConfigError("give a reason with --reason; it is recorded with the tombstone")
    with no_cycle("`redistill forget`", record=not dry_run), ExitStack() as stack:
        client = existing_registry(params)
        if client is not None:
            stack.enter_context(mlflow_errors())
            if not dry_run:
                bundle_changes.complete(client, params)
        plan = _plan(client, params, subject_of(params, name))
        # Before its rows are gone.
        by = trained(client, params, plan.traces)
        problems = [] if dry_run else _carry_out(client, params, plan, reason)
        result = _result(plan, problems) | {"trained": list(by.versions), "unknown": list(by.unknown), "dry_run": dry_run}
        if client is not None and not dry_run:
            sentence = f"{', '.join(tombstone_digest(i)[:12] for i in sorted(plan.traces.ids))} forgotten; it trained {', '.join(by.versions) or 'no version'}: {reason}"
            transitions.record(client, params, "forget", None, sentence, transitions.live(client, params))
    return result


def _plan(client: RegistryClient | None, params: Params, subject: Subject) -> Plan:
    traces = subject.traces
    return Plan(
        subject,
        tuple(_holding(shards(TRAFFIC), traces)),
        tuple(_holding(files.project_files(), traces)),
        tuple(memo for memo in files.memos() if any(_holding((f for f in memo.rglob("*") if f.is_file()), traces))),
        cache.held(traces),
        {} if client is None else bundle_changes.holding(client, params, traces),
        _in_store(traces, remove=False),
        _unnamed(),
    )


def _holding(paths: Iterable[Path], traces: Traces) -> list[Path]:
    return [file for file in paths if tracing.holds(file, traces)]


def _carry_out(client: RegistryClient | None, params: Params, plan: Plan, reason: str) -> list[str]:
    """Remove everything; returns what could not be removed."""
    gone = plan.cache.digests | files.changed_outputs(list(plan.workspace))
    _bury(plan, reason, gone)
    # Under the lock of the writer: its open rows are compared with the tombstones when they are written.
    with traffic_lock(TRAFFIC):
        for file in _holding(shards(TRAFFIC), plan.traces):
            tracing.remove(file, plan.traces)
    for file in plan.workspace:
        tracing.remove(file, plan.traces)
    for memo in plan.memos:
        files.clean_memo(memo, plan.traces)
    _in_store(plan.traces, remove=True)
    cache.remove(plan.cache)
    problems = []
    for bundle in plan.bundles.values():
        assert client is not None
        changed, before = bundle_changes.without(client, params, bundle, plan.traces)
        _bury(plan, reason, gone | before)
        problems += [f"bundle of version {changed.version}: {changed.problem}"] if changed.problem else []
    files.remove_loaded(plan.traces)
    return problems


def _bury(plan: Plan, reason: str, gone: frozenset[str]) -> None:
    for prompt in sorted(plan.traces.ids):
        bury(FORGOTTEN, signed(tombstone_digest(prompt), " ".join(reason.split()), gone))


def _in_store(traces: Traces, *, remove: bool) -> int:
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


def _result(plan: Plan, problems: list[str]) -> dict[str, Any]:
    notes = list(plan.subject.notes)
    if plan.subject.sources:
        notes.append(f"remove it from your own data too, which redistill never changes: {', '.join(plan.subject.sources)}")
    if plan.unnamed:
        notes.append(
            f"{plan.unnamed} completions in the store were stored by an earlier version without their prompt, so they may be of it; a cycle records those that "
            "it still uses, then run the command again"
        )
    notes.append("backups, a DVC remote and other machines may still have it; run the command there too, and make a new backup")
    if plan.workspace or plan.cache.files:
        notes.append("files of the last cycle have changed; the next `redistill run` makes them again without the prompt")
    return {
        "prompts": sorted(plan.traces.ids),
        "traffic": [str(file) for file in plan.traffic],
        "completions": plan.completions,
        "files": [str(file) for file in (*plan.workspace, *plan.memos)],
        "cache_objects": sorted(plan.cache.files),
        "bundles": [asdict(bundle) for bundle in plan.bundles.values()],
        "problems": problems,
        "notes": notes,
    }
