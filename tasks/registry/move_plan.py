"""What is live, and the plan of a transition to another state, as its tag in MLflow describes it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from redistill.provenance import mlflow_names
from redistill.serving.types import Route, route_from_json
from tasks.registry.history import Event
from tasks.registry.tag_text import tag_text

MOVED = (mlflow_names.CHAMPION, mlflow_names.PREVIOUS, mlflow_names.REFERENCE)
"""The aliases that a transition may change."""
_REASON_LETTERS = 300
MOVES = ("promote", "rollback", "reference")
"""Events that change one of them."""


@dataclass(frozen=True, slots=True)
class Live:
    """What is live: the aliases that promotion changes, and the route."""

    champion: str | None
    previous: str | None
    reference: str | None
    route: Route

    @property
    def aliases(self) -> dict[str, str | None]:
        return {name: getattr(self, name) for name in MOVED}


@dataclass(frozen=True, slots=True)
class Plan:
    """A transition as its tag describes it."""

    id: str
    host: str
    at: dt.datetime
    before: Live
    after: Live

    @classmethod
    def text(cls, move_id: str, host: str, at: str, before: Live, after: Live) -> str:
        """A plan as its tag holds it."""
        return tag_text({"id": move_id, "host": host, "at": at, "before": _brief(before), "after": _brief(after)})

    @classmethod
    def read(cls, tag: str) -> Plan:
        tree = json.loads(tag)
        before, after = (Live(**{**tree[state], "route": route_from_json(tree[state]["route"])}) for state in ("before", "after"))
        at = dt.datetime.fromisoformat(tree["at"])
        return cls(str(tree["id"]), str(tree["host"]), at if at.tzinfo else at.replace(tzinfo=dt.UTC), before, after)


def _brief(state: Live) -> dict[str, object]:
    """Without the operator's slices, which no transition changes, and with the beginning of the reason, which the history has in full.

    A database holds 5,000 letters in a tag of a registered model (``SqlRegisteredModelTag`` in mlflow 3.17); a SQLite file would hold any number.
    """
    route = replace(state.route, reason=state.route.reason[:_REASON_LETTERS], teacher_slices=())
    return dataclasses.asdict(replace(state, route=route))


def contradiction(target: Live, committed: Event | None, events: Sequence[Event]) -> str | None:
    """How the state that a plan leads to differs from the history, or None. Whoever can write to MLflow can write a plan."""
    last = committed or next((event for event in reversed(events) if event.kind in MOVES), None)
    recorded = {name: getattr(last, name) if last else None for name in MOVED}
    for name, version in target.aliases.items():
        if version != recorded[name]:
            return f"it sets {name} to version {version or 'none'}, but the history says {recorded[name] or 'none'}"
    live_as = next((event for event in reversed(events) if event.kind in ("promote", "rollback")), None)
    system = None if target.route.cascade is None else dataclasses.asdict(target.route.cascade)
    promoted = (live_as.champion, _plain(live_as.cascade)) if live_as else None
    if target.route.mode != "teacher" and (target.route.model_version, _plain(system)) != promoted:
        return "its route is not that of the champion in the history"
    return None


def _plain(tree: dict[str, object] | None) -> object:
    return json.loads(json.dumps(tree))
