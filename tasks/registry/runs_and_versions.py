"""MLflow: one run per cycle, one version per student, aliases for the live versions, evidence beside the weights."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from statistics import median
from typing import Any

import httpx

from redistill.errors import RegistryError, RegistryUnavailable
from redistill.evaluation.timing import timing_from_json
from redistill.io.digests import file_digest, tree_digest
from redistill.io.json import read_json
from redistill.operations.workspace import Workspace
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.runtime.identity import current_user
from redistill.teacher.types import TeacherFingerprint
from tasks.paths import ARTIFACTS, STATE
from tasks.registry.client import RegistryClient
from tasks.registry.registry_address import cannot_be_used, registry_address
from tasks.results.rows import deciding_identities
from tasks.stages.timing import TIMING

_SILENT_S = 30.0
"""A server that has not answered its health check for so long hangs: a busy one takes a second or two."""


def connect(params: Params) -> RegistryClient:
    """An MLflow client on the project's store and experiment, both made on first use.

    Raises:
        RegistryError: the store cannot be reached.
        ConfigError: its address is none.
    """
    import mlflow

    address = registry_address()
    _refuse_silent_server(address)
    name = mlflow_names.experiment(params.data.name)
    try:
        mlflow.set_tracking_uri(address)
        client: RegistryClient = mlflow.MlflowClient()
        if client.get_experiment_by_name(name) is None:
            client.create_experiment(name, artifact_location=mlflow_names.artifact_root(STATE))
        mlflow.set_experiment(name)
    except mlflow.MlflowException as error:
        raise cannot_be_used(address, error) from error
    return client


def _refuse_silent_server(address: str) -> None:
    """MLflow's client waits two minutes for each answer and asks four times, so a server that hangs would hold a command for eight minutes.

    Raises:
        RegistryError: the server accepts connections, and does not answer.
    """
    if not address.startswith(("http://", "https://")):
        return
    try:
        # Whatever it answers, it is alive.
        httpx.get(f"{address.rstrip('/')}/health", timeout=_SILENT_S)
    except httpx.TimeoutException:
        raise RegistryUnavailable(
            f"MLflow at {httpx.URL(address).netloc.decode()} has not answered for {_SILENT_S:g} s; start it again, or unset MLFLOW_TRACKING_URI to use a local file"
        ) from None
    except httpx.HTTPError:
        # Nothing listens there, or TLS fails: the client says which.
        return


def open_run(params: Params, reason: str, flow_run_id: str) -> tuple[str, str]:
    """Start the cycle's MLflow run; returns its id and the cycle's name, such as ``bank-triage-20261127-020004``."""
    reason = reason.replace("\0", "").encode("utf-8", "replace").decode("utf-8")  # a database refuses both
    cycle = f"{params.data.name}-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}"
    client, workspace = connect(params), Workspace.here(params.data.name)
    experiment = client.get_experiment_by_name(mlflow_names.experiment(params.data.name))
    tags = {
        mlflow_names.TAG_KIND: "cycle",
        mlflow_names.TAG_CYCLE: cycle,
        mlflow_names.TAG_REASON: reason,
        mlflow_names.TAG_FLOW_RUN: flow_run_id,
        mlflow_names.TAG_STARTED_BY: current_user(),
        mlflow_names.TAG_GIT: git_commit(),
        mlflow_names.TAG_STATUS: "running",
        mlflow_names.TAG_WORKSPACE: workspace.id,
        mlflow_names.TAG_FOLDER: f"{workspace.host}:{workspace.folder}",
    }
    return str(client.create_run(experiment.experiment_id, tags=tags, run_name=f"{cycle} · {reason[:100]}").info.run_id), cycle


def log_training(params: Params, mlflow_run_id: str) -> None:
    """Copy what the stages wrote as metrics files into the run: training curves and benchmark scores of every arm."""
    from mlflow.entities import Metric

    client = connect(params)
    metrics = []
    for file in sorted((ARTIFACTS / "students").glob("*.metrics.jsonl")):
        arm = file.name.split(".")[0]
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            step = int(row.pop("step"))
            metrics += [Metric(f"{arm}/{k}", float(v), 0, step) for k, v in row.items() if isinstance(v, int | float)]
    timing = timing_from_json(read_json(TIMING)) if TIMING.is_file() else None
    for file in sorted((ARTIFACTS / "benchmark").glob("*/report.json")):
        report = json.loads(file.read_text(encoding="utf-8"))
        who = report["who"]
        metrics += [Metric(f"{who}/exact_match", report["exact_match"]["value"], 0, 0), Metric(f"{who}/f1", report["f1"]["value"], 0, 0)]
        if timing is not None and (times := timing.of(who)) is not None:
            metrics.append(Metric(f"{who}/latency_p50_s", median(times.request_s), 0, 0))
    if timing is not None:
        ratio = timing.request_ratio
        for name, value in (("", ratio.value), ("_low", ratio.interval.low), ("_high", ratio.interval.high)):
            metrics.append(Metric(f"student_to_teacher/request_time{name}", value, 0, 0))
    for start in range(0, len(metrics), 1000):
        client.log_batch(mlflow_run_id, metrics=metrics[start : start + 1000])


def register(params: Params, mlflow_run_id: str, cycle: str, teacher: TeacherFingerprint) -> str:
    """Register the candidate as ``challenger`` and return its version; the very same weights keep theirs."""
    import mlflow

    client = connect(params)
    checkpoint = ARTIFACTS / "students" / params.promote.arm
    digest = tree_digest(checkpoint)
    name = params.data.name
    version = version_with(client, name, digest)
    if version is None:
        with mlflow.start_run(run_id=mlflow_run_id):
            info = mlflow.transformers.log_model(
                transformers_model=str(checkpoint.absolute()),
                task="text-generation",
                name=mlflow_names.MODEL_ARTIFACT,
                pip_requirements=["transformers", "torch", "accelerate"],
            )
        registered_model(client, name)
        heldout = read_json(deciding_identities(params.promote.arm, params.data))
        tags = {
            mlflow_names.TAG_MODEL_DIGEST: digest,
            mlflow_names.TAG_CYCLE: cycle,
            mlflow_names.TAG_TEACHER: teacher.digest,
            mlflow_names.TAG_HELDOUT: heldout["heldout_digest"],
            mlflow_names.TAG_TEMPLATE: heldout["template_digest"],
            mlflow_names.TAG_DVC_LOCK: file_digest("dvc.lock"),
            mlflow_names.TAG_GIT: git_commit(),
            mlflow_names.TAG_MLFLOW_RUN: mlflow_run_id,
            mlflow_names.TAG_STARTED_BY: client.get_run(mlflow_run_id).data.tags.get(mlflow_names.TAG_STARTED_BY, ""),
        }
        # One request sets the version and its tags, so no version is without its digest and run.
        version = str(mlflow.register_model(info.model_uri, name, await_registration_for=60, tags=tags).version)
    client.set_registered_model_alias(name, mlflow_names.CHALLENGER, version)
    return version


def resolved(client: RegistryClient, params: Params, version_name: str) -> str:
    """A version from its number, an alias, or either behind ``NAME/``.

    Raises:
        RegistryError: there is no such version or alias; the message lists the versions.
    """
    import mlflow

    name, _, short = version_name.rpartition("/")
    if name and name != params.data.name:
        raise RegistryError(
            f"{version_name}: the model of this project is {params.data.name}; name one of its versions, for example {params.data.name}/1"
        )
    version = str(registered_model(client, params.data.name).aliases.get(short, short))
    try:
        return str(client.get_model_version(params.data.name, version).version)
    except mlflow.MlflowException as error:
        versions = sorted((int(v.version) for v in client.search_model_versions(f"name = '{params.data.name}'")), reverse=True)
        known = ", ".join(map(str, versions[:10])) or "none yet: run a cycle"
        raise RegistryError(f"{version_name}: {params.data.name} has no such version or alias; its versions are {known}") from error


def version_with(client: RegistryClient, name: str, digest: str) -> str | None:
    """The newest version with exactly these weights."""
    versions = client.search_model_versions(f"name = '{name}'")
    same = [v for v in versions if v.tags.get(mlflow_names.TAG_MODEL_DIGEST) == digest]
    return str(max(same, key=lambda v: int(v.version)).version) if same else None


def last_completed(params: Params) -> dict[str, str] | None:
    """Tags of the last cycle that ran to its end."""
    client = connect(params)
    experiment = client.get_experiment_by_name(mlflow_names.experiment(params.data.name))
    filter_string = f"tags.`{mlflow_names.TAG_STATUS}` = 'completed' AND tags.`{mlflow_names.TAG_KIND}` = 'cycle'"
    runs = client.search_runs([experiment.experiment_id], filter_string, order_by=["attributes.start_time DESC"], max_results=1)
    return dict(runs[0].data.tags) if runs else None


def registered_model(client: RegistryClient, name: str) -> Any:
    """The registered model of the data set, made on first use."""
    import mlflow

    try:
        return client.get_registered_model(name)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise RegistryError(
                f"MLflow returned no information about model {name} ({_first_line(error)}); try again when MLflow is reachable"
            ) from error
        return client.create_registered_model(
            name, description="Students that redistill trained on this data set; aliases say which is live."
        )


def searched_runs(client: RegistryClient, experiment_id: str, filter_string: str) -> list[Any]:
    """All runs that match, over all pages, oldest first."""
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], filter_string, order_by=["attributes.start_time ASC"], max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def git_commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "no git"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
