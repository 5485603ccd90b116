"""A search over a few settings of the promoted arm, scored on the dev split. It changes no settings; a person decides."""

from __future__ import annotations

import time
from typing import Any

from prefect import flow

from redistill.operations.workspace import Workspace
from redistill.params import load_params
from redistill.runtime import one_line_errors
from tasks import steps
from tasks.orchestration import run_names, turns
from tasks.orchestration.run_record import recorded
from tasks.reporting import publishing
from tasks.reporting.cycle_progress import CycleProgress
from tasks.running.cycle_lock import one_cycle
from tasks.running.fork_server import TRIAL, ForkServer
from tasks.tuning import study


@flow(name="tune-student", flow_run_name=run_names.at_start, log_prints=True)
def tune_student(trials: int | None = None, minutes: float | None = None) -> dict[str, Any]:
    """Try settings until there are enough trials or the time limit is reached.

    Args:
        trials: total number, including earlier trials of the same study. Default: tune.trials.
        minutes: time limit of this search. Default: tune.minutes. A trial that has started runs to its end.
    """
    one_line_errors.install()
    params = load_params()
    trial_count, until = trials or params.tune.trials, time.monotonic() + 60.0 * (minutes or params.tune.minutes)
    workspace = Workspace.here(params.data.name)
    cycle_progress = CycleProgress(trial_count, workspace)
    with recorded(turns.present_run_id()), one_cycle(cycle_progress.say), ForkServer(TRIAL) as fork_server:
        name, mlflow_run_id = steps.open_study(params, cycle_progress.say)
        done = study.finished_trials(params, name)
        while done < trial_count and time.monotonic() < until:
            steps.run_trial(done, params, name, mlflow_run_id, fork_server, cycle_progress.say, cycle_progress.progress)
            done = study.finished_trials(params, name)
        result: dict[str, Any] = steps.report_best_trial(params, name, mlflow_run_id)
    best = result["best"]
    rows = "\n".join(f"| {key} | {value} |" for key, value in best["params"].items())
    text = f"# Best of {result['trials']} trials: F1 {best['f1']} on dev\n\n| setting | value |\n|---|---|\n{rows}\n"
    publishing.markdown(workspace.key("tune"), text, f"F1 {best['f1']} on dev")
    return result
