"""``redistill gate``: judges any registered version, also one that redistill did not train."""

from __future__ import annotations

from redistill.io.json import read_json
from redistill.models import checkpoints
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.runtime.identity import current_user
from tasks.locking.code_lock import lock_code
from tasks.paths import ARTIFACTS
from tasks.promotion import waiting
from tasks.promotion.choose_arm import with_arm
from tasks.promotion.evidence import measured_version, teacher_measurement
from tasks.promotion.judge import judge_version
from tasks.promotion.judgement import Judgement, sealed_numbers, summary
from tasks.registry import evidence_bundle, transitions
from tasks.registry.artifact import weights_of
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import connect, resolved


def gate(params: Params, version_name: str) -> tuple[str, Judgement]:
    """Judge a version by every gate, and give it a signed bundle if it has none about this question.

    This is a look at the held-out set like any other. The same question again is not a new look.

    Raises:
        RegistryError: there is no such version, or its weights cannot be loaded.
        DataError: no teacher has been benchmarked here yet.
    """
    lock_code()
    params, client = with_arm(params), connect(params)
    transitions.recover(client, params)
    version = resolved(client, params, version_name)
    read_json(ARTIFACTS / "benchmark" / "teacher" / "report.json")
    _digest_on_record(client, params, version)
    judgement = judge_version(client, params, version)
    judged = summary(judgement)
    if not evidence_bundle.is_current(params, version, judged):
        experiment = client.get_experiment_by_name(mlflow_names.experiment(params.data.name))
        tags = {mlflow_names.TAG_KIND: "gate", mlflow_names.TAG_STARTED_BY: current_user()}
        run_id = client.create_run(experiment.experiment_id, tags=tags, run_name=f"gate-{version}").info.run_id
        student, teacher = measured_version(client, params, version), teacher_measurement(params)
        results = {"benchmark/student": student.shown, "benchmark/teacher": teacher.shown}
        if student.sealed is not None and teacher.sealed is not None:
            results |= {"heldout/student": student.sealed, "heldout/teacher": teacher.sealed}
        evidence_bundle.write(params, run_id, version, judged, sealed_numbers(judgement), results, None)
        client.set_terminated(run_id, "FINISHED")
    if judgement.decision.verdict == "promote" and params.promote.approval == "person":
        waiting.announce(client, params, version, transitions.history(client, params), again=True)
    return version, judgement


def _digest_on_record(client: RegistryClient, params: Params, version: str) -> None:
    """Record the digest of the weights for a version that redistill did not register."""
    if mlflow_names.TAG_MODEL_DIGEST not in client.get_model_version(params.data.name, version).tags:
        digest = checkpoints.model_digest(weights_of(client, params, version))
        client.set_model_version_tag(params.data.name, version, mlflow_names.TAG_MODEL_DIGEST, digest)
