"""The registered versions that stay, why, and what they need: their runs, and what their bundles name."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redistill.errors import DataError, RegistryError
from redistill.io.json import read_json
from redistill.operations.retention import Version, versions_to_keep
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.runtime.service_failures import explain, registry_failure
from redistill.serving.route_flag import read_route
from tasks.operations.kept.bundle_names import FILES, Names, names_in
from tasks.paths import ARTIFACTS
from tasks.promotion.teacher_trial import BEFORE
from tasks.registry import transitions
from tasks.registry.client import RegistryClient
from tasks.registry.history import Event, withdrawn
from tasks.registry.move_plan import Plan

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>.+))")


@dataclass(frozen=True)
class KeptVersions:
    """Versions with the reasons why they stay, and what they and the workspace name."""

    reasons: dict[str, tuple[str, ...]] = field(default_factory=dict)
    entities: dict[str, Any] = field(default_factory=dict)
    """Every version of the project's model, as MLflow returns it; those that are not in ``reasons`` may go."""
    foreign: tuple[Any, ...] = ()
    """Versions of other registered models."""
    names: Names = field(default_factory=Names)
    promoting: tuple[tuple[str, str], ...] = ()
    """Version, and a run whose judgement made it champion: without it, the version could not be trusted any more."""
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> dict[str, str]:
        """Run → what needs it: runs that a kept version names, for its training, its evidence or its last judgement."""
        needed = {v.run_id: f"model {v.name} version {v.version}" for v in self.foreign}
        for number in self.reasons:
            tags = self.entities[number].tags
            named = (self.entities[number].run_id, tags.get(mlflow_names.TAG_MLFLOW_RUN), tags.get(mlflow_names.TAG_JUDGED_RUN))
            needed |= {run: "a kept version" for run in named if run}
        return needed | {run: "the judgement that promoted a kept version" for version, run in self.promoting if version in self.reasons}

    @property
    def sources(self) -> frozenset[str]:
        """Where the weights of kept versions, and of other registered models, come from."""
        return frozenset(v.source for v in (*self.foreign, *(self.entities[number] for number in self.reasons)))


def workspace_names() -> Names:
    """What the lock files and benchmarks of the present workspace name, and those of a teacher whose successor is not decided yet."""
    files = [*(ARTIFACTS / "benchmark").glob("*/report.json"), *BEFORE.glob("benchmark/report.json")]
    measured = frozenset(str(read_json(file).get("model_digest")) for file in files)
    return names_in(Path()) | names_in(BEFORE) | Names(measured=measured)


def kept_versions(client: RegistryClient | None, params: Params, now_s: float) -> KeptVersions:
    """Which versions stay by ``params.retention``, and what they need.

    Raises:
        RegistryError: MLflow failed, or the bundle of a version with an alias cannot be read: then nobody knows what it needs.
    """
    workspace = workspace_names()
    if client is None:
        return KeptVersions(names=workspace)
    name = params.data.name
    every = _every_version(client)
    entities = {str(v.version): v for v in every if v.name == name}
    foreign = tuple(v for v in every if v.name != name)
    aliases = _aliases(client, name)
    events = transitions.history(client, params)
    needed = _needed(client, params, events, entities, foreign, aliases)
    promoting = tuple((event.champion, event.judged_run) for event in events if event.champion and event.judged_run)
    _add_named(needed, workspace, name, aliases, "params.yaml")
    bundles: dict[str, Names] = {}
    notes: list[str] = []
    while True:
        items = [Version(int(n), v.creation_timestamp / 1000, tuple(needed.get(n, ()))) for n, v in entities.items()]
        reasons = {str(number): why for number, why in versions_to_keep(items, params.retention, now_s).items()}
        unread = [n for n in reasons if n not in bundles]
        if not unread:
            names = workspace
            for bundle in bundles.values():
                names |= bundle
            return KeptVersions(reasons, entities, foreign, names, promoting, tuple(notes))
        for number in unread:
            bundles[number] = _bundle(client, entities[number], strict=number in needed, notes=notes)
            _add_named(needed, bundles[number], name, aliases, f"the params of version {number}")


def _every_version(client: RegistryClient) -> list[Any]:
    """Versions of all registered models, because another model's version may use the weights of one of ours."""
    versions: list[Any] = []
    token = None
    while True:
        page = client.search_model_versions(page_token=token)
        versions += page
        token = page.token
        if not token:
            return versions


def _aliases(client: RegistryClient, name: str) -> dict[str, str]:
    import mlflow

    try:
        # A search returns versions without their aliases.
        return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    except mlflow.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise RegistryError(f"MLflow did not return the aliases of {name} ({str(error).splitlines()[0][:200]}); try again") from error


def _needed(
    client: RegistryClient,
    params: Params,
    events: Sequence[Event],
    entities: dict[str, Any],
    foreign: Iterable[Any],
    aliases: dict[str, str],
) -> dict[str, list[str]]:
    """What needs a version, whatever its age."""
    name = params.data.name
    needed: dict[str, list[str]] = {}

    def need(version: str | None, reason: str) -> None:
        if version in entities and reason not in needed.setdefault(str(version), []):
            needed[str(version)].append(reason)

    for alias, version in sorted(aliases.items()):  # a database returns them in any order
        need(version, alias)
    if entities and (plan := client.get_registered_model(name).tags.get(mlflow_names.TAG_MOVE)) is not None:
        # A plan that cannot be read is not obeyed either.
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            for state in (Plan.read(plan).before, Plan.read(plan).after):
                for named in state.aliases.values():
                    need(named, "a promotion that was interrupted")
    need(read_route(transitions.FLAGS).model_version, "the route")
    last = {event.version: event.kind for event in events if event.kind in ("waiting", "expired", "promote", "reject")}
    for version in entities:
        if last.get(version) == "waiting":
            need(version, "waits for a person's approval")
        # If the same weights come back, they must find their rejection.
        if withdrawn(events, version) is not None:
            need(version, "rejected or rolled back by a person")
    for copy in foreign:
        for version, entity in entities.items():
            if copy.source in (f"models:/{name}/{version}", entity.source):
                need(version, f"model {copy.name} version {copy.version}")
    return {version: reasons for version, reasons in needed.items() if reasons}


def _add_named(needed: dict[str, list[str]], names: Names, name: str, aliases: dict[str, str], where: str) -> None:
    """Versions that params use as teacher or base."""
    for model in names.models:
        if (uri := _URI.fullmatch(model)) and uri["name"] == name and (version := uri["version"] or aliases.get(uri["alias"])):
            reasons = needed.setdefault(version, [])
            if where not in reasons:
                reasons.append(where)


def _bundle(client: RegistryClient, entity: Any, *, strict: bool, notes: list[str]) -> Names:
    """What the signed bundle of a version names; nothing if it has none."""
    import mlflow

    tags = entity.tags
    run_id = tags.get(mlflow_names.TAG_MLFLOW_RUN)
    teacher = Names(teachers=frozenset(filter(None, [tags.get(mlflow_names.TAG_TEACHER)])))
    digest = Names(measured=frozenset(filter(None, [tags.get(mlflow_names.TAG_MODEL_DIGEST)])))
    if not run_id or mlflow_names.TAG_EVIDENCE not in tags:
        return teacher | digest
    try:
        with tempfile.TemporaryDirectory() as scratch:
            present = {Path(a.path).name for a in client.list_artifacts(run_id, mlflow_names.EVIDENCE)}
            if not present:
                raise DataError("its files are gone")
            for file in present & set(FILES):
                path = f"{mlflow_names.EVIDENCE}/{file}"
                shutil.copy(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=f"{scratch}/loaded"), scratch)
            return teacher | digest | names_in(Path(scratch))
    except Exception as error:
        if not isinstance(error, DataError | OSError) and registry_failure(error) is None:
            raise
        problem = f"the bundle of version {entity.version} cannot be read ({explain(error).line[:200]})"
        if strict:
            raise RegistryError(
                f"{problem}, so what it needs is unknown; nothing was removed; `redistill lineage {entity.version}` says more"
            ) from None
        notes.append(f"{problem}; what only this version needs is not kept")
        return teacher | digest
