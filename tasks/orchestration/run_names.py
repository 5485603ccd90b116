"""Names of flow runs that read as sentences, and their last state: what a person sees first in the UI."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from redistill.errors import RedistillError
from redistill.params import load_params
from tasks.reporting import publishing

_SHORT = 60


def at_start() -> str:
    """``bank-triage · nightly``: the project and the reason. Prefect calls it before the flow starts."""
    try:
        name = load_params().data.name
    except RedistillError:
        return f"{flow_run.flow_name}: params.yaml has an error"
    parameters: dict[str, Any] = flow_run.parameters or {}
    subject = parameters.get("reason") or flow_run.flow_name
    if flow_run.flow_name == "promote-student":
        subject = f"{parameters.get('action')} version {parameters.get('version')}"
    return f"{name} · {short(str(subject))}"


def ended(data_name: str, reason: str, sentence: str, outcome: dict[str, Any], state: str = "Completed") -> State[Any]:
    """The last state of a run, with ``sentence`` as its message and in the name of the run; the flow returns ``outcome``."""
    publishing.rename_run(f"{data_name} · {short(reason)} · {short(sentence)}")
    return Completed(name=state, message=sentence, data=outcome)


def short(text: str) -> str:
    """At most 60 characters, cut at a word."""
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else line[: _SHORT - 1].rsplit(" ", 1)[0] + "…"
