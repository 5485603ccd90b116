"""The history: what happened to which version, when, by whom and why. One MLflow run per event, in a separate experiment.

Its order is that of ``sequence``, not of the clock: a machine whose clock is an hour behind must not put a rollback before the promotion that it
took back. For the same reason the MLflow run of an event never starts before that of the event before it, so that a search for newer runs misses none.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from redistill.io.digests import canonical_digest, text_digest
from redistill.io.json import read_json, write_json
from redistill.params import Params
from redistill.provenance import mlflow_names
from tasks.paths import STATE
from tasks.registry import signed_entries
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import searched_runs
from tasks.registry.tag_text import tag_text

Kind = Literal[
    "promote",
    "hold",
    "reject",
    "rollback",
    "reference",
    "distrust",
    "alarm",
    "teacher-accepted",
    "teacher-refused",
    "waiting",
    "expired",
    "freeze",
    "unfreeze",
    "heldout-retired",
    "key-rotated",
    "forget",
]
_KIND = "event"
_MOST_LETTERS = 8000
"""Source: ``MAX_TAG_VAL_LENGTH`` in mlflow/utils/validation.py 3.17."""
_EARLIER = "earlier-lines.json"
"""Artifact of the first signed event: the digests of the events before it."""


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
        self._runs: dict[str, str] = {}
        self._unsigned: dict[str, Any] = {}
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
            trust = _trust(trusted, run, params.data.name)
            if trust == "signed":
                event = _read(run)
                self._events[event.id] = event
                self._runs[event.id] = run.info.run_id
                # Of signed events only: a forged one could claim to start in a hundred years, and later reads would find nothing.
                self._newest_ms = max(self._newest_ms or 0, int(run.info.start_time))
            elif trust == "unsigned":
                self._unsigned[run.info.run_id] = run
            else:
                self._refused.add(run.info.run_id)
        return sorted([*self._events.values(), *self._earlier()], key=lambda event: (event.sequence, event.at))

    def _earlier(self) -> list[Event]:
        """Events that were recorded before events were signed: those that the first signed one pins."""
        unsigned = {run_id: _read(run) for run_id, run in self._unsigned.items()}
        first = min(self._events.values(), key=lambda event: event.sequence, default=None)
        pinned = None if first is None else _pinned(self._runs[first.id], first.pins)
        texts = {run_id: run.data.tags[mlflow_names.TAG_EVENT] for run_id, run in self._unsigned.items()}
        kept = {
            run_id
            for run_id, event in unsigned.items()
            if first is None or (event.sequence < first.sequence if pinned is None else text_digest(texts[run_id]) in pinned)
        }
        if refused := len(self._refused | (unsigned.keys() - kept)):
            signed_entries.say_once(
                f"history: {refused} line{'s' * (refused > 1)} left out, because no key that this project trusts signed them; "
                "see `redistill key list` and docs/security.md"
            )
        if first is not None and _pin(texts[run_id] for run_id in kept) != first.pins:
            signed_entries.say_once(
                "history: lines that were written before lines were signed were added, changed or deleted later; check who can write to MLflow"
            )
        return [unsigned[run_id] for run_id in kept]


def _pin(texts: Iterable[str]) -> str:
    """The digest of the list that the first signed event comes with; empty if there is nothing before it."""
    digests = sorted(map(text_digest, texts))
    return canonical_digest(digests) if digests else ""


def _pinned(run_id: str, pins: str) -> frozenset[str] | None:
    """Digests of the events before the first signed one; None if their list is missing or was changed."""
    import mlflow

    if not pins:
        return frozenset()
    copy = STATE / "history-pins" / f"{pins}.json"
    try:
        digests = read_json(copy) if copy.is_file() else json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/{_EARLIER}"))
        if canonical_digest(digests) != pins:
            return None
        if not copy.is_file():
            write_json(copy, digests)
        return frozenset(digests)
    except (mlflow.MlflowException, OSError, ValueError, TypeError):
        return None


def _trust(trusted: signed_entries.Trusted, run: Any, data_name: str) -> signed_entries.Trust:
    """An event that cannot be read was not written by redistill."""
    text = run.data.tags.get(mlflow_names.TAG_EVENT)
    trust = "forged" if text is None else trusted.trust(text, run.data.tags.get(mlflow_names.TAG_SIGNATURE), _KIND, data_name)
    if trust in ("signed", "unsigned"):
        try:
            _read(run)
        except (ValueError, TypeError):
            return "forged"
    return trust


def _read(run: Any) -> Event:
    return Event(**json.loads(run.data.tags[mlflow_names.TAG_EVENT]))


def append(client: RegistryClient, params: Params, event: Event) -> None:
    """Sign an event, and write it behind the last one. The caller holds the registry's lock.

    Raises:
        RegistryError: the signing key is lost.
    """
    name = mlflow_names.history_experiment(params.data.name)
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name, mlflow_names.artifact_root(STATE))
    runs, earlier = _behind(client, experiment_id, params.data.name)
    digests = sorted(text_digest(run.data.tags[mlflow_names.TAG_EVENT]) for run in earlier)
    pins = canonical_digest(digests) if digests else ""
    # Runs of one millisecond are in any order, so the number comes from several of them.
    sequence = 1 + max((_read(run).sequence for run in runs), default=0)
    started = max(int(time.time() * 1000), 1 + max((int(run.info.start_time) for run in runs), default=0))
    numbered = replace(event, sequence=sequence, pins=pins)
    text = _text(numbered)
    signature = signed_entries.signature_of(text, _KIND, params.data.name)
    tags = {mlflow_names.TAG_KIND: "event", mlflow_names.TAG_EVENT: text, mlflow_names.TAG_SIGNATURE: signature}
    if digests:
        write_json(STATE / "history-pins" / f"{pins}.json", digests)
    run = client.create_run(experiment_id, start_time=started, tags=tags, run_name=f"{event.kind}-{event.version or 'none'}")
    if digests:
        client.log_text(run.info.run_id, json.dumps(digests), _EARLIER)
    client.set_terminated(run.info.run_id, "FINISHED")


def _text(event: Event) -> str:
    """An event as a tag holds it. MLflow cuts a longer one, and what is left of it would be no JSON; so the reason is cut here."""
    text = tag_text(dataclasses.asdict(event))
    if (excess := len(text) - _MOST_LETTERS) > 0:
        return tag_text(dataclasses.asdict(replace(event, reason=f"{event.reason[: -excess - 1]}…")))
    return text


def _behind(client: RegistryClient, experiment_id: str, data_name: str) -> tuple[list[Any], list[Any]]:
    """The last events, behind which a new one is put; and for the first signed event, all events that have no signature.

    Forged events do not count: many of them, with any number and time, would put the new one before the others.
    """
    trusted = signed_entries.Trusted()
    newest = client.search_runs(
        [experiment_id], f"tags.`{mlflow_names.TAG_KIND}` = 'event'", order_by=["attributes.start_time DESC"], max_results=50
    )
    if signed := [run for run in newest if _signed(trusted, run, data_name)]:
        return signed, []
    every = searched_runs(client, experiment_id, "")
    if signed := [run for run in every if _signed(trusted, run, data_name)]:
        return signed, []
    earlier = [run for run in every if _trust(trusted, run, data_name) in ("signed", "unsigned")]
    if earlier:
        signed_entries.say_once(f"history: lines are signed from now on; the first signed line pins the {len(earlier)} before it")
    return earlier, earlier


def _signed(trusted: signed_entries.Trusted, run: Any, data_name: str) -> bool:
    return mlflow_names.TAG_SIGNATURE in run.data.tags and _trust(trusted, run, data_name) == "signed"


def withdrawn(events: Sequence[Event], version: str) -> str | None:
    """Why a version must not be promoted automatically: a person rejected it or rolled back from it, or its live traffic raised an alarm. A promotion by a person
    ends that."""
    reason, champion = None, None
    for event in events:
        if event.kind == "reject" and event.version == version:
            reason = f"version {version} was rejected by {event.by}: {event.reason}"
        elif event.kind == "alarm" and event.version == version:
            reason = _alarm(event)
        elif event.kind == "rollback" and champion == version and event.champion != version:
            reason = f"version {version} was rolled back by {event.by}: {event.reason}"
        elif event.kind in ("promote", "rollback") and event.champion == version:
            reason = None
        if event.kind in ("promote", "rollback"):
            champion = event.champion
    return reason


def alarmed(events: Sequence[Event], version: str) -> str | None:
    """The alarm of a version's live traffic, if it was not promoted again since then. Rows that were there before the alarm say nothing against it."""
    for event in reversed(events):
        if event.kind in ("promote", "rollback") and event.champion == version:
            return None
        if event.kind == "alarm" and event.version == version:
            return _alarm(event)
    return None


def _alarm(event: Event) -> str:
    return f"live traffic of version {event.version} raised an alarm on {event.at[:10]}: {event.reason}"
