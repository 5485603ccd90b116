"""What follows from the verdict on live traffic: an event and an alert; and, to act, the traffic to the teacher and a cycle, each once."""

from __future__ import annotations

from dataclasses import replace

from redistill.operations.alerts import AlertKind
from redistill.operations.workspace import Workspace
from redistill.params import Params
from redistill.serving.drift.types import Window
from redistill.serving.route_flag import read_route
from tasks.orchestration import alerting, guard_alarm, pending, turns
from tasks.registry.transitions import FLAGS
from tasks.reporting import publishing
from tasks.serving.drift_state import DriftState, one_monitor, read_state, write_state
from tasks.serving.fall_back import Fall, all_to_teacher
from tasks.serving.monitor import Seen, sentence_of
from tasks.serving.traffic_page import PAGE

WARNED, ACTED = "redistill.traffic.drift.warned", "redistill.traffic.drift.acted"
_ALERT: AlertKind = "traffic-drifted"
_FALLS: dict[Fall, str] = {
    "teacher": "the teacher answers now",
    "version-before": "the version before answers now",
    "pinned": "the student is pinned, so it keeps its traffic; remove the pin with `redistill route set auto --reason REASON`",
    "not-live": "another version has the traffic by now, so it stays there",
    "failed": "the flag cannot be written, so the student keeps its traffic; set the route with `redistill route set teacher --reason REASON`",
}


def respond(params: Params, workspace: Workspace, state: DriftState) -> list[str]:
    """Do what the verdict asks for and was not done yet; returns a sentence for each thing done.

    The state says what was announced only afterwards, so a run that was killed in between is made good by the next one.
    """
    with one_monitor():
        # Another run may have judged a window since ``state`` was read.
        state = read_state() or state
        if not state.windows:
            return []
        window, done, fell_at = state.windows[-1], list[str](), state.fell_at
        if state.verdict == "act" and window.at_risk and not fell_at:
            done += _to_teacher(params, workspace, state, window)
            route = read_route(FLAGS)
            fell_at = route.changed_at if route.mode == "teacher" else ""
        if state.verdict != state.announced:
            done += _announced(params, workspace, state, window)
        write_state(replace(state, announced=state.verdict, fell_at=fell_at))
    return done


def _announced(params: Params, workspace: Workspace, state: DriftState, window: Window) -> list[str]:
    sentence = sentence_of(window)
    if state.verdict == "calm":
        alerting.settled(_ALERT)
        return ["the traffic is as before; the warning is over"]
    event = ACTED if state.verdict == "act" else WARNED
    payload = {
        "data": workspace.data_name,
        "version": state.version,
        "verdict": state.verdict,
        "at_risk": window.at_risk,
        "sentence": sentence,
    }
    publishing.event(event, alerting.resource(workspace), payload)
    done = [f"event {event}"]
    text = f"live traffic differs from the rows that models are judged on: {sentence}; see {PAGE / 'report.html'}"
    if state.verdict == "act":
        pending.add(f"live traffic has drifted: {sentence}"[:400])
        started = turns.start_waiting(workspace)
        done.append(f"a cycle is asked for{f' (run {started})' if started else ''}; {_prompts_of_cycle(params)}")
        text += f"; {done[-1]}"
    alerting.alert(workspace, _ALERT, f"{state.system} {state.verdict} {state.since:.0f}", text)
    return done


def _to_teacher(params: Params, workspace: Workspace, state: DriftState, window: Window) -> list[str]:
    """All traffic goes to the teacher, also that of both versions of a rollout, and the history has a line; a person's pin and another version stay."""
    if read_route(FLAGS).mode == "teacher":
        return []
    fall = all_to_teacher(params, f"live traffic has drifted: {sentence_of(window)}", state.version)
    if fall == "teacher":
        # People are told now; the cycle is asked for with the verdict.
        guard_alarm.take(params, workspace)
    return [_FALLS[fall]]


def _prompts_of_cycle(params: Params) -> str:
    """Whether the cycle will learn from the drifted prompts, and if not, what to add."""
    if any(getattr(source, "traffic", None) for source in params.data.source):
        return "its rows include logged prompts"
    return (
        "data.source has no logged traffic, so the cycle learns nothing about the new prompts: set traffic.log, and add a source `traffic` to "
        "data.source (docs/data.md)"
    )


def text_of(seen: Seen, done: list[str]) -> str:
    """The verdict as Markdown, for Prefect's page."""
    lines = [f"**{seen.sentence}**", *(f"- {line}" for line in (*done, *seen.notes)), f"Page with plots: `{PAGE / 'report.html'}`"]
    return "\n\n".join(lines)
