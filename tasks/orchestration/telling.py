"""What the outcome of a cycle means to people: which alerts it raises, and which are over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from redistill.errors import RedistillError, StageError
from redistill.operations.workspace import Workspace
from redistill.runtime.service_failures import as_registry_errors
from tasks.orchestration import alerting, run_names, turns
from tasks.promotion.retest_champion import ChampionCheck
from tasks.promotion.teacher_trial import TeacherTrial
from tasks.reporting import publishing


def tell_outcome(workspace: Workspace, outcome: dict[str, Any], live: ChampionCheck | None, trial: TeacherTrial | None) -> None:
    """Raise the alerts of a cycle that came to its end, and give a sign of life."""
    alerting.settled("failed", "silent")
    if live is not None and not live.trusted:
        alerting.alert(workspace, "champion-distrusted", live.version, live.sentence)
    else:
        alerting.settled("champion-distrusted")
    if trial is not None and not trial.accepted:
        alerting.alert(workspace, "teacher-refused", trial.sentence.partition(":")[0], trial.sentence)
    else:
        alerting.settled("teacher-refused")
        if outcome.get("unfit"):
            alerting.alert(workspace, "teacher-unfit", ", ".join(outcome["unfit"]), outcome["sentence"])
        else:
            alerting.settled("teacher-unfit")
            _tell_decision(workspace, outcome)
    alerting.sign_of_life(outcome["sentence"], ok=True)


def _tell_decision(workspace: Workspace, outcome: dict[str, Any]) -> None:
    version, text = str(outcome["model_version"]), outcome["sentence"]
    if outcome["verdict"] == "promote" and outcome["blocked"] is None:
        alerting.settled("held", "waiting")
        if not text.startswith("nothing to do"):
            alerting.alert(workspace, "promoted", version, text)
    elif outcome["verdict"] == "promote":
        alerting.alert(
            workspace,
            "waiting",
            version,
            f"{outcome['blocked']}; decide with `redistill promote {version}` or `redistill reject {version}`",
        )
    else:
        gates = [gate["name"] for gate in outcome["gates"] if gate["result"] != "pass"]
        alerting.alert(workspace, "held", f"{version}: {', '.join(gates)}", text)


@contextlib.contextmanager
def failures_told(reason: str) -> Iterator[None]:
    """Raise the alert of a cycle that fails, wherever it fails: also before its first stage, by an expired review or a mistake in params.yaml."""
    try:
        with as_registry_errors():
            yield
    except BaseException as error:
        if turns.status_after(error) == "failed" and (workspace := turns.workspace_of_run()) is not None:
            _tell_failure(workspace, reason, error)
        raise


def _tell_failure(workspace: Workspace, reason: str, error: BaseException) -> None:
    """Two failures are the same alert if kind and stage are the same, whatever numbers their texts have."""
    text = str(error) if isinstance(error, RedistillError) else f"{type(error).__name__}: {error}"
    stage = error.stage if isinstance(error, StageError) else ""
    alerting.alert(workspace, "failed", f"{type(error).__name__} {stage}".strip(), text)
    alerting.sign_of_life(text, ok=False)
    publishing.rename_run(f"{workspace.data_name} · {run_names.short(reason)} · failed: {run_names.short(text)}")
