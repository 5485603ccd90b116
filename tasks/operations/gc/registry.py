"""`redistill gc` in MLflow: versions beyond the retention, the weights that no version uses, and old runs with their files.

A version is deleted before its weights, so that no version is without weights. The files of a run are removed before the run itself, so that
after a kill the next gc still finds the run, and with it the files. `mlflow gc` is not used: it stops at the first folder that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from redistill.io.disk_usage import freed_by_removing
from redistill.operations.retention import Item, Kept, Sweep, divided
from redistill.params import Params
from redistill.provenance import mlflow_names
from tasks.operations.gc import trash
from tasks.operations.kept.project_store import is_project_store
from tasks.operations.kept.versions import KeptVersions
from tasks.paths import STATE
from tasks.registry.client import RegistryClient

VERSIONS, WEIGHTS, RUNS = "model versions", "registered weights", "runs"
_ACTIVE, _ALL = 1, 3
"""MLflow's view types. Source: ``mlflow.entities.ViewType``."""
_ESTIMATE_DAYS_S = 30 * 86400.0


def sweep_versions(client: RegistryClient, params: Params, kept: KeptVersions, *, dry_run: bool) -> Sweep:
    """Delete the versions that are not kept. Their weights go with ``sweep_weights``."""
    name = params.data.name
    to_remove = sorted(kept.entities.keys() - kept.reasons.keys(), key=int)
    if to_remove and not dry_run:
        # Another tool may have set an alias a moment ago. MLflow's server would delete the version and leave the alias.
        aliased = {str(version) for version in client.get_registered_model(name).aliases.values()}
        to_remove = [version for version in to_remove if version not in aliased]
        for version in to_remove:
            client.delete_model_version(name, version)
    by_reason: dict[str, list[str]] = {}
    for version in sorted(kept.reasons, key=int):
        by_reason.setdefault(", ".join(kept.reasons[version]), []).append(version)
    stay = tuple(Kept(VERSIONS, reason, len(numbers), tuple(numbers)) for reason, numbers in by_reason.items())
    return Sweep(VERSIONS, len(to_remove), 0, stay)


def sweep_weights(client: RegistryClient, params: Params, kept: KeptVersions, now_s: float, *, dry_run: bool) -> Sweep:
    """Remove registered weights that no version uses: those of deleted versions, and of cycles that stopped before they registered one."""
    removed_sources = {kept.entities[v].source for v in kept.entities.keys() - kept.reasons.keys()}
    items, models = [], {}
    for model in _logged_models(client, _experiment(client, params)):
        uri = f"models:/{model.model_id}"
        models[model.model_id] = model
        needed = "a registered version" if uri in kept.sources else None
        # The age that counts is that of the version, which may be older than a later use of the same weights.
        changed_s = 0.0 if uri in removed_sources else model.creation_timestamp / 1000
        items.append(Item(model.model_id, changed_s, needed))
    removed, stay = divided(WEIGHTS, items, params.retention, now_s)

    def forget(item: Item) -> None:
        client.delete_logged_model(item.name)
        if store := _project_tracking_store():
            store._hard_delete_logged_model(item.name)

    count, freed, note = _remove(removed, lambda item: str(models[item.name].artifact_location), forget, dry_run=dry_run)
    return Sweep(WEIGHTS, count, freed, stay, note)


def sweep_runs(client: RegistryClient, params: Params, kept: KeptVersions, now_s: float, *, dry_run: bool) -> Sweep:
    """Remove old runs of the project's experiment with their files. The experiments of the history and of the looks are never touched."""
    runs = {run.info.run_id: run for run in every_run(client, params)}
    removed, stay = divided(RUNS, _run_items(runs.values(), kept.runs, now_s), params.retention, now_s)

    def forget(item: Item) -> None:
        if runs[item.name].info.lifecycle_stage == "active":
            client.delete_run(item.name)
        if store := _project_tracking_store():
            store._hard_delete_run(item.name)

    count, freed, note = _remove(removed, lambda item: str(runs[item.name].info.artifact_uri), forget, dry_run=dry_run)
    return Sweep(RUNS, count, freed, stay, note)


def every_run(client: RegistryClient, params: Params) -> list[Any]:
    """The runs of the project's experiment; in the project's own store also those that were marked as deleted, because their files are still there."""
    experiment, runs, token = _experiment(client, params), list[Any](), None
    view = _ALL if is_project_store() else _ACTIVE
    while True:
        page = client.search_runs([experiment], "", view, 1000, ["attributes.start_time ASC"], token)
        runs += page
        token = page.token
        if not token:
            return runs


def _experiment(client: RegistryClient, params: Params) -> str:
    return str(client.get_experiment_by_name(mlflow_names.experiment(params.data.name)).experiment_id)


def _run_items(runs: Iterable[Any], needed: dict[str, str], now_s: float) -> list[Item]:
    items: dict[str, Item] = {}
    parents: dict[str, str] = {}
    completed = [run.info.run_id for run in runs if _is_completed_cycle(run.data.tags)]
    last, complete = completed[-1] if completed else None, set(completed)
    for run in runs:
        run_id, changed_s = run.info.run_id, (run.info.end_time or run.info.start_time) / 1000
        reason = needed.get(run_id)
        if run_id == last:
            reason = reason or "the last completed cycle, with which `redistill watch` compares the teacher"
        elif run_id in complete and now_s - run.info.start_time / 1000 < _ESTIMATE_DAYS_S:
            reason = reason or "a cycle of the last 30 days, which `redistill estimate` counts"
        items[run_id] = Item(run_id, changed_s, reason)
        if (parent := run.data.tags.get(mlflow_names.TAG_PARENT)) is not None:
            parents[run_id] = parent
    # A trial stays as long as its search: a search that continues would otherwise log it again.
    for run_id, parent in parents.items():
        if parent in items:
            items[run_id] = Item(run_id, items[parent].changed_s, items[run_id].needed_by or items[parent].needed_by)
    return list(items.values())


def _is_completed_cycle(tags: dict[str, str]) -> bool:
    return (tags.get(mlflow_names.TAG_KIND), tags.get(mlflow_names.TAG_STATUS)) == ("cycle", "completed")


def _logged_models(client: RegistryClient, experiment: str) -> list[Any]:
    models: list[Any] = []
    token = None
    while True:
        page = client.search_logged_models([experiment], page_token=token)
        models += page
        token = page.token
        if not token:
            return models


def _remove(
    items: Iterable[Item], location: Callable[[Item], str], forget: Callable[[Item], None], *, dry_run: bool
) -> tuple[int, int, str]:
    """Remove the files of each item, then its record. An item whose files cannot be removed keeps its record, so that the next gc tries again."""
    import mlflow

    count, freed, problems = 0, 0, list[str]()
    for item in items:
        size, failed = _remove_files(location(item), item.name, dry_run=dry_run)
        freed += size
        if failed:
            problems.append(failed)
            continue
        count += 1
        if not dry_run:
            try:
                forget(item)
            except mlflow.MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
    return count, freed, "; ".join(problems[:3])


def _remove_files(uri: str, name: str, *, dry_run: bool) -> tuple[int, str]:
    """Bytes that this frees, and why it failed. Files that are missing already free nothing."""
    if (folder := project_folder(uri, name)) is not None:
        if dry_run:
            return freed_by_removing([folder]), ""
        freed, problems = trash.remove([folder])
        return freed, "; ".join(problems)
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        repository = get_artifact_repository(uri)
        size = _listed_bytes(repository, None)
        if size and not dry_run:
            repository.delete_artifacts()
        return size, ""
    except Exception as error:
        # Stores raise errors of many types: those of their clients, of HTTP, and of MLflow.
        return 0, f"the files of {name} at {uri} cannot be removed ({str(error).splitlines()[0][:200]})"


def project_folder(uri: str, name: str) -> Path | None:
    """The folder of a run or of registered weights (``name`` is its id) in the project's own store; None if its files are somewhere else."""
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    root = (STATE / "mlflow" / "artifacts").absolute()
    # MLflow puts the files of both into a folder `artifacts` below one that is named by the id.
    inside = parts.scheme == "file" and path.parent.name == name and path.is_relative_to(root) and ".." not in path.parts
    return path.parent if inside else None


def _listed_bytes(repository: Any, path: str | None) -> int:
    return sum(_listed_bytes(repository, f.path) if f.is_dir else int(f.file_size or 0) for f in repository.list_artifacts(path))


def _project_tracking_store() -> Any:
    """MLflow's store object if the project has its own SQLite file; None with a server, which has no call that removes a record for good.

    ``mlflow gc`` uses the same methods. Source: mlflow 3.17.2, ``mlflow.cli.gc``.
    """
    if not is_project_store():
        return None
    from mlflow.tracking._tracking_service.utils import _get_store

    return _get_store()
