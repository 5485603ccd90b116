"""The history: what happened to which version, when, by whom and why. One MLflow run per event, in a separate experiment.

Its order is that of ``sequence``, not of the clock: a machine whose clock is an hour behind must not put a rollback before the promotion that it
took back. For the same reason the MLflow run of an event never starts before that of the event before it, so that a search for newer runs misses none.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from redistill.params import Params
from redistill.provenance import mlflow_names
from tasks.paths import STATE
from tasks.registry import signed_entries
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import searched_runs

Kind = Literal[
    "promote",
    "hold",
    "reject",
    "rollback",
    "reference",
    "distrust",
    "teacher-accepted",
    "teacher-refused",
    "waiting",
    "expired",
    "freeze",
    "unfreeze",
    "heldout-retired",
    "key-rotated",
]
_KIND = "event"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history: what happened to which version, when, by whom, why, and which version is live after it."""

    id: str
    kind: Kind
    version: str | None
    at: str
    by: str
    reason: str
    champion: str | None
    previous: str | None
    route: str
    reference: str | None = None
    sequence: int = 0
    """Events of versions before 0.2 have none; they come first, in the order of their times."""
    judged_run: str = ""
    """The MLflow run with the judgement that a promotion or rollback rests on."""
    cascade: dict[str, Any] | None = None
    """Score and threshold with which the champion went live; None if it answers alone."""
    pins: str = ""
    """Of the first signed event: a digest of the events before it, which have no signature."""


class History:
    """Every promotion, hold, rejection and rollback. The first read loads all events, later reads only the new ones.

    A cycle reads it at its start and at its end, hours later. It must see what a person did in between, without reading a history of years twice.
    """

    def __init__(self) -> None:
        self._events: dict[str, Event] = {}
        self._unsigned: dict[str, str] = {}
        self._refused: set[str] = set()
        self._newest_ms: int | None = None

    def events(self, client: RegistryClient, params: Params) -> list[Event]:
        """The events up to now, oldest first. Events that no key of this project signed are left out, with one line that says so."""
        experiment = client.get_experiment_by_name(mlflow_names.history_experiment(params.data.name))
        if experiment is None:
            return []
        trusted = signed_entries.Trusted()
        filter_string = "" if self._newest_ms is None else f"attributes.start_time >= {self._newest_ms}"
        for run in searched_runs(client, experiment.experiment_id, filter_string):
            self._newest_ms = max(self._newest_ms or 0, int(run.info.start_time))
            text = run.data.tags.get(mlflow_names.TAG_EVENT)
            if text is not None:
                trust = trusted.trust(text, run.data.tags.get(mlflow_names.TAG_SIGNATURE), _KIND, params.data.name)
                self._add(run.info.run_id, text, trust)
        return sorted([*self._events.values(), *self._earlier()], key=lambda event: (event.sequence, event.at))

    def _add(self, run_id: str, text: str, trust: signed_entries.Trust) -> None:
        if trust == "signed":
            event = Event(**json.loads(text))
            self._events[event.id] = event
        elif trust == "unsigned":
            self._unsigned[run_id] = text
        else:
            self._refused.add(run_id)

    def _earlier(self) -> list[Event]:
        """Events of before events were signed: those that the first signed one pins."""
        unsigned = {run: Event(**json.loads(text)) for run, text in self._unsigned.items()}
        first = min(self._events.values(), key=lambda event: event.sequence, default=None)
        if first is None:
            return list(unsigned.values())
        late = {run for run, event in unsigned.items() if event.sequence >= first.sequence or not first.pins}
        if refused := len(self._refused | late):
            signed_entries.say_once(
                f"history: {refused} line{'s' * (refused > 1)} left out, because no key that this project trusts signed them; "
                "see `redistill key list` and docs/security.md"
            )
        kept = [run for run in unsigned if run not in late]
        if signed_entries.pin(self._unsigned[run] for run in kept) != first.pins:
            signed_entries.say_once(
                "history: lines of before lines were signed were added, changed or deleted since; check who can write to MLflow"
            )
        return [unsigned[run] for run in kept]


def append(client: RegistryClient, params: Params, event: Event) -> None:
    """Sign an event, and write it behind the last one. The caller holds the registry's lock.

    Raises:
        RegistryError: the signing key is lost.
    """
    name = mlflow_names.history_experiment(params.data.name)
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name, mlflow_names.artifact_root(STATE))
    newest = client.search_runs(
        [experiment_id], f"tags.`{mlflow_names.TAG_KIND}` = 'event'", order_by=["attributes.start_time DESC"], max_results=50
    )
    events = [json.loads(run.data.tags[mlflow_names.TAG_EVENT]) for run in newest]
    # Runs of one millisecond are in any order, so the number comes from several of them.
    sequence = 1 + max((e.get("sequence", 0) for e in events), default=0)
    started = max(int(time.time() * 1000), 1 + max((int(run.info.start_time) for run in newest), default=0))
    numbered = replace(event, sequence=sequence, pins=_pins(client, experiment_id, newest))
    text = json.dumps(dataclasses.asdict(numbered))
    signature = signed_entries.signature_of(text, _KIND, params.data.name)
    tags = {mlflow_names.TAG_KIND: "event", mlflow_names.TAG_EVENT: text, mlflow_names.TAG_SIGNATURE: signature}
    run = client.create_run(experiment_id, start_time=started, tags=tags, run_name=f"{event.kind}-{event.version or 'none'}")
    client.set_terminated(run.info.run_id, "FINISHED")


def _pins(client: RegistryClient, experiment_id: str, newest: Sequence[Any]) -> str:
    """The digest of events of before events were signed, for the first signed one."""
    if not newest or any(mlflow_names.TAG_SIGNATURE in run.data.tags for run in newest):
        return ""
    runs = [run for run in searched_runs(client, experiment_id, "") if mlflow_names.TAG_EVENT in run.data.tags]
    if any(mlflow_names.TAG_SIGNATURE in run.data.tags for run in runs):
        return ""
    signed_entries.say_once(f"history: lines are signed from now on; the first signed line pins the {len(runs)} before it")
    return signed_entries.pin(run.data.tags[mlflow_names.TAG_EVENT] for run in runs)


def withdrawn(events: Sequence[Event], version: str) -> str | None:
    """Why a version must not be promoted automatically: a person rejected it or rolled back from it. A promotion by a person ends that."""
    reason, champion = None, None
    for event in events:
        if event.kind == "reject" and event.version == version:
            reason = f"version {version} was rejected by {event.by}: {event.reason}"
        elif event.kind == "rollback" and champion == version and event.champion != version:
            reason = f"version {version} was rolled back by {event.by}: {event.reason}"
        elif event.kind in ("promote", "rollback") and event.champion == version:
            reason = None
        if event.kind in ("promote", "rollback"):
            champion = event.champion
    return reason
