"""Tuning in Prefect: a study with one task per trial, and a nested MLflow run for every trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from redistill.errors import ConfigError, DataError, StageError
from redistill.io.atomic import replacing
from redistill.io.digests import canonical_digest, tree_digest
from redistill.io.json import write_json
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.runtime.environment import child_environment
from redistill.runtime.progress import LINE
from redistill.tuning import study as tuning
from tasks.paths import ARTIFACTS
from tasks.registry.runs_and_versions import connect
from tasks.running.fork_server import ForkServer
from tasks.tuning.trial_worker import study_file

RESULT = ARTIFACTS / "tune"
_NEEDED = ("prompts/train.parquet", "prompts/dev.parquet", "validated/kept.parquet", "soft_targets/targets")


def study_name(params: Params) -> str:
    """The name of the study. It depends on data, teacher and settings, so that different searches are never mixed.

    Raises:
        ConfigError: ``promote.arm`` names no arm.
        DataError: no cycle has prepared what a trial needs.
    """
    if params.promote.arm not in params.finetune.arms:
        raise ConfigError(
            f"a search trains one arm, but promote.arm is {params.promote.arm}; name one of {', '.join(params.finetune.arms)}"
        )
    missing = [p for p in _NEEDED if not (ARTIFACTS / p).exists()]
    if missing:
        raise DataError(f"{ARTIFACTS / missing[0]} is missing: trials train on data that a cycle prepared; run `redistill run` first")
    inputs = [params.data, params.teacher, params.student, params.finetune, params.promote.arm]
    search_space = [params.tune.space, params.tune.tokens, params.tune.seed]
    settings = [
        str(dataclasses.asdict(g) if dataclasses.is_dataclass(g) and not isinstance(g, type) else g) for g in (*inputs, *search_space)
    ]
    return canonical_digest([*settings, *(tree_digest(ARTIFACTS / p) for p in _NEEDED)])[:16]


def open_study(params: Params, say: Callable[[str], None]) -> tuple[str, str]:
    """Name of the study and id of its MLflow run, both made on first use; what a killed search left is taken up."""
    name = study_name(params)
    client = connect(params)
    study = tuning.open_study(study_file(name), name, params.tune.seed)
    left = tuning.take_up(study)
    done = len(tuning.finished(study))
    if left or done:
        say(f"study {name}: {done} trials done before" + (f", {left} unfinished and run again" if left else ""))
    else:
        start = tuning.current(params)
        if start:
            study.enqueue_trial(start)
    experiment = client.get_experiment_by_name(mlflow_names.experiment(params.data.name)).experiment_id
    found = client.search_runs(
        [experiment], f"tags.`{mlflow_names.TAG_STUDY}` = '{name}' AND tags.`{mlflow_names.TAG_KIND}` = 'tune'", max_results=1
    )
    if found:
        return name, str(found[0].info.run_id)
    tags = {mlflow_names.TAG_KIND: "tune", mlflow_names.TAG_STUDY: name}
    return name, str(client.create_run(experiment, tags=tags, run_name=f"tune-{name[:8]}").info.run_id)


def finished_trials(params: Params, name: str) -> int:
    """How many trials of the study count so far."""
    return len(tuning.finished(tuning.open_study(study_file(name), name, params.tune.seed)))


def run_trial(
    number: int,
    params: Params,
    name: str,
    mlflow_run_id: str,
    fork_server: ForkServer,
    say: Callable[[str], None],
    progress: Callable[[str, int, int], None],
) -> None:
    """One trial in a process of its own, a fork of ``fork_server``, then its MLflow run.

    Raises:
        StageError: it ended with an error. The next search goes on without it; one that was killed it tries once again.
    """

    def hear(line: str) -> None:
        found = LINE.match(line)
        if found:
            progress(f"trial {number}", int(found["done"]), int(found["total"]))
        elif line.startswith("[tune]"):
            say(line.removeprefix("[tune] "))

    code, lines = fork_server.streamed("tasks.tuning.trial_worker", [name], child_environment(), hear)
    if code:
        errors = [line for line in lines if line.startswith("error: ")]
        reason = errors[-1].removeprefix("error: ") if errors else " / ".join(list(lines)[-4:])
        raise StageError(f"trial {number} failed: {reason}", f"trial {number}", code, tuple(lines))
    log_trials(params, name, mlflow_run_id)


def log_trials(params: Params, name: str, mlflow_run_id: str) -> None:
    """A nested run for every finished trial that has none yet."""
    client = connect(params)
    study, metric = tuning.open_study(study_file(name), name, params.tune.seed), objective(params)
    experiment = client.get_run(mlflow_run_id).info.experiment_id
    nested = client.search_runs([experiment], f"tags.`{mlflow_names.TAG_PARENT}` = '{mlflow_run_id}'", max_results=10_000)
    there = {r.data.tags.get(mlflow_names.TAG_TRIAL) for r in nested}
    for trial in tuning.finished(study):
        if str(trial.number) in there:
            continue
        tags = {
            mlflow_names.TAG_KIND: "trial",
            mlflow_names.TAG_STUDY: name,
            mlflow_names.TAG_TRIAL: str(trial.number),
            mlflow_names.TAG_PARENT: mlflow_run_id,
            mlflow_names.TAG_STATUS: trial.state.name.lower(),
        }
        run = client.create_run(experiment, tags=tags, run_name=f"trial-{trial.number}")
        for key, value in trial.params.items():
            client.log_param(run.info.run_id, key, value)
        for step, value in sorted(trial.intermediate_values.items()):
            client.log_metric(run.info.run_id, f"dev/{metric}", value, step=step)
        if trial.state.name == "COMPLETE":
            client.log_metric(run.info.run_id, f"dev/{metric}_final", float(trial.value or 0.0))
            client.log_metric(run.info.run_id, "dev/exact_match", trial.user_attrs["exact_match"])
        client.set_terminated(run.info.run_id, "FINISHED")


def objective(params: Params) -> str:
    """The metric that compares trials (``DevScore.objective``), as a key."""
    return "chrf" if params.data.grammar is None else "f1"


def tell(params: Params, name: str, mlflow_run_id: str) -> dict[str, Any]:
    """Write the best setting as a patch of params, the table of trials and the plots; log them and return them.

    Raises:
        DataError: no trial ran to its end.
    """
    study, metric = tuning.open_study(study_file(name), name, params.tune.seed), objective(params)
    done = tuning.finished(study)
    whole = [t for t in done if t.state.name == "COMPLETE"]
    if not whole:
        raise DataError("no trial ran to its end within the time limit; raise tune.minutes, or lower tune.tokens")
    best = study.best_trial
    now = tuning.current(params)
    start = next((trial for trial in whole if now and trial.params == {**trial.params, **now}), None)
    result: dict[str, Any] = {
        "study": name,
        "trials": len(done),
        "pruned": len(done) - len(whole),
        "metric": metric,
        "best": {"trial": best.number, metric: round(float(best.value or 0.0), 4), **best.user_attrs, "params": best.params},
        f"{metric}_now": None if start is None else round(float(start.value or 0.0), 4),
        f"{metric}_now_interval": None if start is None else start.user_attrs.get(f"{metric}_interval"),
        "patch": tuning.patch(best.params, params),
        "plots": [],
    }
    RESULT.mkdir(parents=True, exist_ok=True)
    result["plots"] = [str(p) for p in tuning.plots(study, RESULT, metric)]
    rows = [{"trial": t.number, "state": t.state.name.lower(), metric: t.value, **t.params} for t in done]
    write_json(RESULT / "tune.json", {**result, "rows": rows})
    with replacing(RESULT / "patch.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(result["patch"], sort_keys=False), encoding="utf-8")
    client = connect(params)
    for file in (RESULT / "tune.json", RESULT / "patch.yaml", *map(Path, result["plots"])):
        client.log_artifact(mlflow_run_id, str(file))
    client.log_metric(mlflow_run_id, f"dev/{metric}_best", result["best"][metric])
    client.set_terminated(mlflow_run_id, "FINISHED")
    return result
