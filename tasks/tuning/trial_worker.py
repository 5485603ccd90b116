"""``python -m tasks.tuning.trial_worker STUDY``: one trial of a study in a process of its own, so that a crash loses only this trial."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from redistill.errors import RedistillError
from redistill.params import Params, load_params
from redistill.runtime import environment
from redistill.runtime.cpu import keep_freed_memory
from redistill.tuning import study as tuning
from tasks.locking.licence_check import require_reviewed
from tasks.paths import STATE
from tasks.running.die_with_parent import die_with_parent
from tasks.training import variant

RUNGS = (1 / 3, 2 / 3)
"""Parts of a trial after which it may be stopped early."""


def study_file(name: str) -> Path:
    return STATE / "tune" / f"{name}.journal"


def one(name: str, params: Params) -> None:
    """Draw a setting, train, score on dev at each rung, and tell the study."""
    import optuna

    from redistill.evaluation.dev_score import dev_score

    require_reviewed()
    study = tuning.open_study(study_file(name), name, params.tune.seed)
    trial = study.ask()
    try:
        setting = tuning.drawn(trial, params.tune.space, params)
        rows = variant.dev_rows()
        print(f"[tune] trial {trial.number}: {', '.join(f'{k} {v:.4g}' for k, v in trial.params.items())}", flush=True)

        def watch(model: Any, tokenizer: Any, step: int, of: int) -> None:
            if step in {max(1, round(rung * of)) for rung in RUNGS} and step < of:
                trial.report(dev_score(model, tokenizer, rows, params.data, params.generate.max_tokens).objective, step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        student = params.student if setting.layers is None else variant.with_depth(params.student, setting.layers)
        common = replace(
            params.finetune.common, learning_rate=setting.learning_rate, tokens=params.tune.tokens or params.finetune.common.tokens
        )
        arm = replace(params.finetune.arms[params.promote.arm], alpha=setting.alpha, temperature=setting.temperature)
        label = f"{params.promote.arm}, trial {trial.number}"
        model, tokenizer, parameters = variant.trained(
            label, student, params.teacher, params.data, params.finetune.method, common, arm, watch
        )
        score = dev_score(model, tokenizer, rows, params.data, params.generate.max_tokens)
        trial.set_user_attr("exact_match", round(score.exact_match, 4))
        trial.set_user_attr("parameters", parameters)
        trial.set_user_attr(f"{score.metric}_interval", [round(end, 4) for end in score.interval()])
        study.tell(trial, score.objective)
        print(f"[tune] trial {trial.number}: {score.text} on {len(rows)} dev rows", flush=True)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        print(f"[tune] trial {trial.number}: stopped early: score below the median", flush=True)
    except Exception:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise


def main() -> None:
    environment.silence()
    die_with_parent()
    keep_freed_memory()
    try:
        one(sys.argv[1], load_params())
    except RedistillError as error:
        if os.environ.get("REDISTILL_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
