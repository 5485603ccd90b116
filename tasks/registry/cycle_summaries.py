"""The summaries of cycles, as metrics and tags of their MLflow runs: columns that people can sort by, and what the trends are drawn from."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from typing import Any

from redistill.operations.cycle_summary import CycleSummary, Quality
from redistill.operations.types import StageReceipt
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.teacher.use import TeacherUse
from tasks.registry.runs_and_versions import connect, searched_runs

_LETTERS = 4000
"""Half of what MLflow allows in a tag. Source: ``MAX_TAG_VAL_LENGTH`` in mlflow/utils/validation.py 3.17."""


def close_run(params: Params, receipts: Sequence[StageReceipt], raw_teacher: str, summary: CycleSummary, note: str) -> None:
    """End the cycle's run; a completed one is what the watcher compares the teacher with. ``note`` is what MLflow's page says of it, as Markdown."""
    from mlflow.entities import Metric, RunTag

    client, run_id, now_ms = connect(params), summary.run_id, int(1000 * time.time())
    seconds = {f"stage_seconds/{r.stage.replace('@', '/')}": r.seconds for r in receipts}
    machine_s = {f"machine_seconds/{r.stage.replace('@', '/')}": r.cost_s for r in receipts}
    values = {**seconds, **machine_s, **_metrics(summary)}
    tags = {
        mlflow_names.TAG_STAGES_RAN: str(summary.ran),
        mlflow_names.TAG_SENTENCE: summary.sentence[:_LETTERS],
        mlflow_names.TAG_VERDICT: summary.verdict,
        mlflow_names.TAG_VERSION: summary.version,
        mlflow_names.TAG_ROUTE: summary.route,
        mlflow_names.TAG_METRIC: summary.metric,
        mlflow_names.TAG_TEACHER_RAW: raw_teacher,
        mlflow_names.TAG_NOTE: note[:_LETTERS],
        mlflow_names.TAG_STATUS: summary.status,
    }
    entities = [Metric(name, float(value), now_ms, 0) for name, value in values.items()]
    client.log_batch(run_id, metrics=entities, tags=[RunTag(name, text) for name, text in tags.items()])
    if summary.sentence:
        client.update_run(run_id, name=f"{summary.sentence[:100]} · {summary.cycle}")
    client.set_terminated(run_id, {"completed": "FINISHED", "cancelled": "KILLED"}.get(summary.status, "FAILED"))


def recent_cycles(params: Params, days: int = 30) -> list[CycleSummary]:
    """The cycles of the last days that have ended, oldest first."""
    client = connect(params)
    experiment = client.get_experiment_by_name(mlflow_names.experiment(params.data.name))
    since = int(1000 * (time.time() - 86400 * days))
    filter_string = f"tags.`{mlflow_names.TAG_KIND}` = 'cycle' AND attributes.start_time >= {since}"
    return [_summary(run) for run in searched_runs(client, experiment.experiment_id, filter_string) if run.info.end_time]


def _metrics(summary: CycleSummary) -> dict[str, float]:
    use = summary.use
    values = {
        "cycle/seconds": summary.seconds,
        "cycle/machine_seconds": summary.machine_s,
        "cycle/usd": summary.usd,
        "cycle/disk_bytes": summary.disk_bytes,
        "cycle/student_share": summary.student_share,
        **({} if use is None else {f"cycle/{name}": getattr(use, name) for name in TeacherUse.__slots__}),
        **_quality_metrics("student", summary.student),
        **_quality_metrics("teacher", summary.teacher),
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def _quality_metrics(who: str, quality: Quality | None) -> dict[str, float | None]:
    if quality is None:
        return {}
    return {f"cycle/{who}_quality": quality.value, f"cycle/{who}_quality_low": quality.low, f"cycle/{who}_quality_high": quality.high}


def _summary(run: Any) -> CycleSummary:
    metrics, tags = run.data.metrics, run.data.tags

    def quality(who: str) -> Quality | None:
        value, low, high = (metrics.get(f"cycle/{who}_quality{end}") for end in ("", "_low", "_high"))
        return None if value is None else Quality(value, low, high)

    disk_bytes = metrics.get("cycle/disk_bytes")
    return CycleSummary(
        cycle=tags.get(mlflow_names.TAG_CYCLE, run.info.run_name),
        started_at=dt.datetime.fromtimestamp(run.info.start_time / 1000, dt.UTC),
        status=tags.get(mlflow_names.TAG_STATUS, "failed"),
        ran=int(tags.get(mlflow_names.TAG_STAGES_RAN, 0)),
        seconds=(run.info.end_time - run.info.start_time) / 1000,
        sentence=tags.get(mlflow_names.TAG_SENTENCE, ""),
        verdict=tags.get(mlflow_names.TAG_VERDICT, ""),
        version=tags.get(mlflow_names.TAG_VERSION, ""),
        route=tags.get(mlflow_names.TAG_ROUTE, ""),
        student_share=metrics.get("cycle/student_share"),
        metric=tags.get(mlflow_names.TAG_METRIC, ""),
        student=quality("student"),
        teacher=quality("teacher"),
        machine_s=metrics.get("cycle/machine_seconds"),
        usd=metrics.get("cycle/usd"),
        use=TeacherUse(*(int(metrics[f"cycle/{name}"]) for name in TeacherUse.__slots__)) if "cycle/asked_rows" in metrics else None,
        disk_bytes=None if disk_bytes is None else int(disk_bytes),
        run_id=run.info.run_id,
    )
