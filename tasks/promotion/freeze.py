"""A freeze: until a date nothing is promoted, while the nights go on and a champion that fails still loses its traffic."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass

from redistill.errors import ConfigError
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.runtime.identity import current_user
from tasks.registry import transitions
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import connect, registered_model
from tasks.registry.tag_text import tag_text

_LETTERS = 1000
"""Of a reason in the tag, which a database holds up to 5,000 letters; the history has more of it."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """``until`` is the last day of the freeze, in UTC."""

    until: str
    by: str
    reason: str

    @property
    def sentence(self) -> str:
        return f"promotions are frozen until {self.until} by {self.by}: {self.reason}; `redistill freeze --end --reason REASON` ends that"


def frozen(client: RegistryClient, params: Params, today: dt.date | None = None) -> Freeze | None:
    """The freeze that holds today, or None. It is in the registry, so every machine sees it."""
    tag = registered_model(client, params.data.name).tags.get(mlflow_names.TAG_FREEZE)
    if tag is None:
        return None
    freeze = Freeze(**json.loads(tag))
    return freeze if (today or dt.datetime.now(dt.UTC).date()) <= dt.date.fromisoformat(freeze.until) else None


def freeze(params: Params, until: str, reason: str) -> Freeze:
    """Freeze promotions up to and including a day.

    Raises:
        ConfigError: no reason, or not a day from today on.
    """
    _check_reason(reason)
    try:
        day = dt.date.fromisoformat(until)
    except ValueError:
        raise ConfigError(f"--until {until}: not a date; write it as 2026-12-31") from None
    if day < dt.datetime.now(dt.UTC).date():
        raise ConfigError(f"--until {until}: this day is over; name today or a later one")
    client = connect(params)
    new = Freeze(until, current_user(), reason[:_LETTERS])
    registered_model(client, params.data.name)
    client.set_registered_model_tag(params.data.name, mlflow_names.TAG_FREEZE, tag_text(dataclasses.asdict(new)))
    transitions.record(client, params, "freeze", None, f"until {until}: {reason}", transitions.live(client, params))
    return new


def end_freeze(params: Params, reason: str) -> bool:
    """End a freeze; False if there was none."""
    _check_reason(reason)
    client = connect(params)
    if mlflow_names.TAG_FREEZE not in registered_model(client, params.data.name).tags:
        return False
    client.delete_registered_model_tag(params.data.name, mlflow_names.TAG_FREEZE)
    transitions.record(client, params, "unfreeze", None, reason, transitions.live(client, params))
    return True


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise ConfigError("give a reason with --reason; it is recorded in the history")
