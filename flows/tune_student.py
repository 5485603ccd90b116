"""A search over a few settings of the promoted arm, on the dev split; what a person then does with it is theirs."""

from __future__ import annotations

import time
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from redistill.params import load_params
from tasks import steps
from tasks.reporting.cycle_progress import Telling
from tasks.running import dvc_stage
from tasks.running.fork_server import TRIAL, Warm
from tasks.tuning import study


@flow(name="tune-student", log_prints=True)
def tune_student(trials: int | None = None, minutes: float | None = None) -> dict[str, Any]:
    """Try settings until there are enough trials or the time is over.

    Args:
        trials: how many in all, those of an earlier search of the same study included; by default tune.trials.
        minutes: of this search; by default tune.minutes. A trial that has begun is finished.
    """
    params = load_params()
    wanted, until = trials or params.tune.trials, time.monotonic() + 60.0 * (minutes or params.tune.minutes)
    telling = Telling(total=wanted)
    with dvc_stage.one_cycle(telling.say), Warm(TRIAL) as warm:
        name, mlflow_run_id = steps.open_study(params, telling.say)
        done = study.finished_trials(params, name)
        while done < wanted and time.monotonic() < until:
            steps.run_trial(done, params, name, mlflow_run_id, warm, telling.say, telling.progress)
            done = study.finished_trials(params, name)
        result: dict[str, Any] = steps.report_best_trial(params, name, mlflow_run_id)
    best = result["best"]
    rows = "\n".join(f"| {key} | {value} |" for key, value in best["params"].items())
    text = f"# Best of {result['trials']} trials: F1 {best['f1']} on dev\n\n| setting | value |\n|---|---|\n{rows}\n"
    create_markdown_artifact(markdown=text, key="tune", description=f"F1 {best['f1']} on dev")
    return result
