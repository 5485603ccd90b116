"""``redistill forget``: removes a prompt from everything that this project keeps of it, and makes sure that it does not come back.

First a private file says what is removed (``pending``), then the tombstone lists what will be gone, then the removal begins. A command that was interrupted
has deleted rows that say which prompt it was; the next one reads the private file and completes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from redistill.data.forgotten import bury, forgotten_digests, tombstone_digest
from redistill.data.traffic.shards import shards
from redistill.errors import ConfigError
from redistill.io.shared_store import SharedStore
from redistill.operations import traces as tracing
from redistill.operations.traces import Traces
from redistill.params import Params
from redistill.runtime.service_failures import as_registry_errors
from redistill.serving.traffic.lock import traffic_lock
from tasks.operations.forgetting import cache, files, pending
from tasks.operations.forgetting.pending import Removal
from tasks.operations.forgetting.plan import Plan, holding, in_store, plan_of, result_of
from tasks.operations.forgetting.subject import Subject, come_back, subject_of
from tasks.operations.forgetting.trained import trained
from tasks.operations.kept.project_store import existing_registry
from tasks.paths import FORGOTTEN
from tasks.registry import bundle_changes, transitions
from tasks.registry.client import RegistryClient
from tasks.registry.forgotten_objects import signed
from tasks.running.cycle_lock import no_cycle
from tasks.sharing import session

_AGAIN = "it was removed before, and was here again"


def forget(
    params: Params, name: str, reason: str, *, resume: bool = False, outside_cache: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Remove the prompts that ``name`` means, or with ``dry_run`` only say where they are. Removals that were interrupted are completed first.

    ``resume`` also removes prompts that have a tombstone and are here again. ``outside_cache``: also from a DVC cache that lies outside of the project.

    Raises:
        ConfigError: no reason, or neither a name nor ``resume``.
        DataError: nothing has this name, or a file cannot be changed.
        StageError: a cycle is running.
        RegistryError: MLflow failed.
    """
    if not name and not resume:
        raise ConfigError(
            "name a prompt: its id, a row's own id, or the X-Request-Id of a response; --resume completes what an interrupted command left"
        )
    if name and not reason.strip() and not dry_run:
        raise ConfigError("give a reason with --reason; it is recorded with the tombstone")
    with no_cycle("`redistill forget`", record=not dry_run), ExitStack() as stack:
        store = None if dry_run else stack.enter_context(session.alone(params, "`redistill forget`"))
        client = existing_registry(params)
        if client is not None:
            stack.enter_context(as_registry_errors())
            if not dry_run:
                bundle_changes.complete(client, params)
        left = pending.unfinished()
        removals = _removals(params, name, reason, left, resume=resume)
        plan = plan_of(client, params, _together(removals))
        # Before its rows are gone.
        by = trained(client, params, plan.traces)
        problems = [] if dry_run else _carry_out(client, params, plan, removals, store, outside_cache=outside_cache)
        result = result_of(plan, problems) | {"trained": list(by.versions), "unknown": list(by.unknown), "dry_run": dry_run}
        if left:
            result["notes"].insert(
                0,
                f"removals that were interrupted or had a problem: {len(left)}; {'the next command goes' if dry_run else 'this one went'} on with them",
            )
        if client is not None and not dry_run and removals:
            short = ", ".join(tombstone_digest(i)[:12] for i in sorted(plan.traces.ids))
            why = "; ".join(dict.fromkeys(removal.reason for removal in removals))
            sentence = f"{short} forgotten; it trained {', '.join(by.versions) or 'no version'}: {why}"
            transitions.record(client, params, "forget", None, sentence, transitions.live(client, params))
    return result


def _removals(params: Params, name: str, reason: str, left: list[Removal], *, resume: bool) -> list[Removal]:
    """What was left before, and what is asked for now. A name may be known only to what was left: its rows are gone."""
    removals = list(left)
    if name and not any(name in removal.subject.names for removal in left):
        removals.append(Removal(subject_of(params, name), " ".join(reason.split())))
    known = {tombstone_digest(identity) for removal in removals for identity in removal.subject.traces.ids}
    if resume and (again := come_back(params, forgotten_digests(FORGOTTEN) - known)) is not None:
        removals.append(Removal(again, _AGAIN))
    return removals


def _together(removals: list[Removal]) -> Subject:
    subjects = [removal.subject for removal in removals]
    traces = Traces(
        frozenset().union(*(subject.traces.ids for subject in subjects)),
        tuple(sorted({text for subject in subjects for text in subject.traces.texts})),
    )
    return Subject(traces, _each(s.sources for s in subjects), _each(s.notes for s in subjects), _each(s.names for s in subjects))


def _each(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Each once, in this order."""
    return tuple(dict.fromkeys(each for part in parts for each in part))


def _carry_out(
    client: RegistryClient | None, params: Params, plan: Plan, removals: list[Removal], store: SharedStore | None, *, outside_cache: bool
) -> list[str]:
    """Remove everything; returns what could not be removed."""
    if not removals:
        return []
    for removal in removals:
        pending.begin(removal)
    with_cache = outside_cache or not plan.cache.outside
    gone = files.changed_outputs(list(plan.workspace)) | (plan.cache.digests if with_cache else frozenset())
    _bury(removals, gone)
    for folder in plan.folders:
        # Under the lock of who writes here: open rows are compared with the tombstones when they are written.
        with traffic_lock(folder):
            for file in holding(shards(folder), plan.traces):
                tracing.remove(file, plan.traces)
    for file in plan.workspace:
        tracing.remove(file, plan.traces)
    for memo in plan.memos:
        files.clean_memo(memo, plan.traces)
    # While its rows are here: they say which segments have them.
    problems = [] if store is None else session.forget(store, plan.traces, plan.cache.digests)
    in_store(plan.traces, remove=True)
    if with_cache:
        cache.remove(plan.cache)
    elif plan.cache.files:
        problems.append(plan.cache.problem)
    for bundle in plan.bundles.values():
        assert client is not None
        changed, before = bundle_changes.without(client, params, bundle, plan.traces)
        _bury(removals, gone | before)
        problems += [f"bundle of version {changed.version}: {changed.problem}"] if changed.problem else []
    files.remove_loaded(plan.traces)
    if not problems:
        for removal in removals:
            pending.end(removal)
    return problems


def _bury(removals: list[Removal], gone: frozenset[str]) -> None:
    for removal in removals:
        for prompt in sorted(removal.subject.traces.ids):
            bury(FORGOTTEN, signed(tombstone_digest(prompt), removal.reason, gone))
