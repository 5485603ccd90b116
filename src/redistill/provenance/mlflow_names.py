"""Every MLflow name and tag that redistill writes, and nowhere else.

A registered version points at its run; the run holds the evidence bundle (report, outcomes, locks, params); tags hold the
digests that bind them to what is on disk.
"""

from __future__ import annotations

import os
from pathlib import Path

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
REFERENCE = "reference"
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS, REFERENCE)

TAG_MODEL_DIGEST = "redistill.model_digest"
TAG_CYCLE = "redistill.cycle"
TAG_KIND = "redistill.kind"
TAG_VERDICT = "redistill.verdict"
TAG_REASONS = "redistill.reasons"
TAG_TEACHER = "redistill.teacher"
TAG_TEACHER_RAW = "redistill.teacher_raw"
TAG_HELDOUT = "redistill.heldout_digest"
TAG_TEMPLATE = "redistill.template_digest"
TAG_GIT = "redistill.git_commit"
TAG_DVC_LOCK = "redistill.dvc_lock_sha256"
TAG_FLOW_RUN = "redistill.flow_run_id"
TAG_REASON = "redistill.reason"
TAG_STARTED_BY = "redistill.started_by"
TAG_EVIDENCE = "redistill.evidence_sha256"
TAG_MLFLOW_RUN = "redistill.mlflow_run_id"
TAG_JUDGED_RUN = "redistill.judged_run_id"
TAG_QUESTION = "redistill.question_sha256"
TAG_STATUS = "redistill.status"
TAG_STAGES_RAN = "redistill.stages_ran"
TAG_SENTENCE = "redistill.sentence"
TAG_VERSION = "redistill.version"
TAG_ROUTE = "redistill.route"
TAG_METRIC = "redistill.metric"
TAG_LOOK = "redistill.look"
TAG_MOVE = "redistill.move"
TAG_HOLD = "redistill.champion_hold"
TAG_EVENT = "redistill.event"
TAG_SIGNATURE = "redistill.signature"
TAG_FREEZE = "redistill.freeze"
TAG_WORKSPACE = "redistill.workspace"
TAG_FOLDER = "redistill.folder"

TAG_STUDY = "redistill.study"
TAG_TRIAL = "redistill.trial"
TAG_NOTE = "mlflow.note.content"
"""MLflow's own tag: the description that its UI shows above a run, as Markdown."""
TAG_PARENT = "mlflow.parentRunId"
"""MLflow's own tag, by which its UI nests runs."""

EVIDENCE = "evidence"
MODEL_ARTIFACT = "student"


def experiment(data_name: str) -> str:
    return f"redistill/{data_name}"


def looks_experiment(data_name: str) -> str:
    return f"redistill/{data_name}/looks"


def history_experiment(data_name: str) -> str:
    return f"redistill/{data_name}/history"


def looks_head(heldout: str) -> str:
    """The registered model's tag that holds the digest of the last look at a held-out set."""
    return f"redistill.looks.{heldout[:32]}"


def tracking_uri(state: Path) -> str:
    """Where MLflow keeps runs: the user's server where one is named, else a file of the project's own."""
    return os.environ.get("MLFLOW_TRACKING_URI") or project_store(state)


def project_database(state: Path) -> Path:
    """The SQLite file of the project's own store."""
    return (state / "mlflow" / "mlflow.db").absolute()


def project_store(state: Path) -> str:
    return f"sqlite:///{project_database(state)}"


def project_artifacts(state: Path) -> str:
    return (state / "mlflow" / "artifacts").absolute().as_uri()


def artifact_root(state: Path) -> str | None:
    """Where our own store puts artifacts; None lets the user's server decide.

    That the variable is set says nothing: MLflow sets it itself as soon as a tracking URI is chosen.
    """
    return project_artifacts(state) if tracking_uri(state) == project_store(state) else None
