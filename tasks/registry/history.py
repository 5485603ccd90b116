"""The history: what happened to which version, when, by whom and why. One MLflow run per event, in a separate experiment."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redistill.params import Params
from redistill.provenance import mlflow_names
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import searched_runs

_CLOCKS_DIFFER = dt.timedelta(hours=1)
"""The time of an event is that of the machine that wrote it."""

Kind = Literal["promote", "hold", "reject", "rollback", "reference", "distrust"]


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


class History:
    """Every promotion, hold, rejection and rollback. The first read loads all events, later reads only the new ones.

    A cycle reads it at its start and at its end, hours later. It must see what a person did in between, without reading a history of years twice.
    """

    def __init__(self) -> None:
        self._events: dict[str, Event] = {}
        self._whole_at: dt.datetime | None = None

    def events(self, client: RegistryClient, params: Params) -> list[Event]:
        """The events up to now, oldest first."""
        experiment = client.get_experiment_by_name(mlflow_names.history_experiment(params.data.name))
        if experiment is None:
            return []
        filter_string, now = "", dt.datetime.now(dt.UTC)
        if self._whole_at is not None:
            filter_string = f"attributes.start_time >= {int((self._whole_at - _CLOCKS_DIFFER).timestamp() * 1000)}"
        for run in searched_runs(client, experiment.experiment_id, filter_string):
            event = Event(**json.loads(run.data.tags[mlflow_names.TAG_EVENT]))
            self._events[event.id] = event
        self._whole_at = self._whole_at or now
        return sorted(self._events.values(), key=lambda event: event.at)


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
