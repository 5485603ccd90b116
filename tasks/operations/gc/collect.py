"""`redistill gc`: frees disk over everything that nights leave behind, in an order in which a kill at any point damages nothing that stays.

First the kept versions and what they need are read, then things are removed from the outside to the inside: flow runs, versions, their weights, runs,
completions, loaded copies, and objects of DVC's cache. Each part starts from what is there, so a second gc completes one that was interrupted.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from redistill.operations.retention import Sweep
from redistill.operations.workspace import Workspace
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.runtime.service_failures import as_registry_errors
from tasks.operations.gc import databases, dvc_cache, flow_runs, registry, shared_store, state_files
from tasks.operations.kept.project_store import existing_registry
from tasks.operations.kept.versions import KeptVersions, kept_versions
from tasks.registry import transitions
from tasks.registry.client import RegistryClient
from tasks.running.cycle_lock import no_cycle
from tasks.sharing import session


def collect_garbage(params: Params, *, shared: bool = False, dry_run: bool = False) -> list[Sweep]:
    """Remove what ``params.retention`` lets go, or with ``dry_run`` say what that would be, without any change. ``shared``: also in the store that clones share.

    Raises:
        ConfigError: the environment does not name what ``shared`` needs.
        StageError: a cycle is running, with ``shared`` also in another clone, or DVC failed.
        RegistryError: MLflow cannot be reached, a promotion is under way on another machine, or a bundle that must stay cannot be read.
        DataError: a folder, a lock file, the completion store or DVC's cache cannot be read.
    """
    with no_cycle("`redistill gc`", record=not dry_run), ExitStack() as leased:
        now_s = time.time()
        store = shared_store.require_store(params) if shared else None
        if shared and not dry_run:
            leased.enter_context(session.alone(params, "`redistill gc --shared`"))
        client = existing_registry(params)
        with ExitStack() as stack:
            if client is not None:
                stack.enter_context(as_registry_errors())
            if client is not None and not dry_run:
                transitions.recover(client, params)
                # No promotion may start between the look at the aliases and the removal.
                stack.enter_context(transitions.registry_lock())
            kept = kept_versions(client, params, now_s)
            team = None if store is None else shared_store.require_knowledge(store, client, kept.notes)
            sweeps = [] if client is None else _sweep_registry(client, params, kept, now_s, dry_run=dry_run)
        sweeps.append(databases.sweep_completions(kept.names, params.retention, now_s, dry_run=dry_run))
        sweeps += state_files.sweep_files(params, kept, now_s, dry_run=dry_run)
        plan = dvc_cache.plan_cache(kept.names, params.retention, now_s)
        # The run cache is read while the objects are still there, so that a dry run and a real one count the same entries.
        sweeps.append(dvc_cache.sweep_run_cache(plan, params.retention, now_s, dry_run=dry_run))
        sweeps.append(dvc_cache.sweep_objects(plan, dry_run=dry_run))
        if team is not None:
            sweeps += shared_store.sweep_store(team, kept.names, params.retention, now_s, dry_run=dry_run)
        sweeps += [databases.compact(file, dry_run=dry_run) for file in (databases.STORE, databases.MLFLOW)]
        return sweeps + [Sweep(registry.VERSIONS, note=note) for note in kept.notes]


def _sweep_registry(client: RegistryClient, params: Params, kept: KeptVersions, now_s: float, *, dry_run: bool) -> list[Sweep]:
    runs, needed = registry.every_run(client, params), kept.runs
    cycles = {flow_run: needed.get(run.info.run_id) for run in runs if (flow_run := run.data.tags.get(mlflow_names.TAG_FLOW_RUN))}
    return [
        # Before the runs in MLflow, which name them.
        flow_runs.sweep_flow_runs(Workspace.here(params.data.name), cycles, params.retention, now_s, dry_run=dry_run),
        registry.sweep_versions(client, params, kept, dry_run=dry_run),
        registry.sweep_weights(client, params, kept, now_s, dry_run=dry_run),
        registry.sweep_runs(client, params, kept, now_s, dry_run=dry_run),
    ]
