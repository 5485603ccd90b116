"""Removes prompts from signed bundles: the bundle is verified, the prompt is removed from its files, and what is left is signed again.

A bundle that does not verify is not touched: signing it again would hide what somebody did to it. The new bundle is complete on this machine before the
first file of the old one is replaced, so a command that was killed completes it the next time.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from redistill.errors import RegistryError
from redistill.io.atomic import replacing_directory
from redistill.io.digests import tree_digest
from redistill.io.json import read_json, write_json
from redistill.operations import traces as tracing
from redistill.operations.traces import Traces
from redistill.params import Params
from redistill.provenance import keys, mlflow_names, signing
from tasks.paths import STATE
from tasks.registry import evidence_bundle, transitions
from tasks.registry.artifact import downloaded, private_folder
from tasks.registry.client import RegistryClient

_PENDING = STATE / "forgotten" / "bundles"
_FACTS = "version.json"


@dataclass(frozen=True, slots=True)
class Changed:
    """A bundle that held a prompt. ``problem`` says why it still does; empty if it does not."""

    version: str
    run_id: str
    files: tuple[str, ...]
    problem: str = ""


def bundles(client: RegistryClient, params: Params) -> dict[str, str]:
    """Every run with a bundle, and the version that it is about."""
    runs: dict[str, str] = {}
    for version in client.search_model_versions(f"name = '{params.data.name}'"):
        for tag in (mlflow_names.TAG_MLFLOW_RUN, mlflow_names.TAG_JUDGED_RUN):
            if run_id := version.tags.get(tag):
                runs[run_id] = str(version.version)
    promoted = {event.judged_run: event.champion for event in transitions.history(client, params) if event.judged_run and event.champion}
    return {**promoted, **runs}


def holding(client: RegistryClient, params: Params, traces: Traces) -> dict[str, Changed]:
    """The bundles with a prompt in them, by run."""
    every = {}
    for run_id, version in bundles(client, params).items():
        folder = _loaded(run_id, version)
        files = tuple(p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file() and tracing.holds(p, traces))
        if files:
            every[run_id] = Changed(version, run_id, files)
    return every


def _loaded(run_id: str, version: str) -> Path:
    import mlflow

    folder = private_folder("bundles", f"{version}-{run_id}")
    if mlflow_names.EVIDENCE in {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(run_id)}:
        mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=mlflow_names.EVIDENCE, dst_path=str(folder))
    return folder / mlflow_names.EVIDENCE


def without(client: RegistryClient, params: Params, bundle: Changed, traces: Traces) -> tuple[Changed, frozenset[str]]:
    """Remove a prompt from a bundle; also returns DVC's digests of the changed files and of the folders that they are in, as they were."""
    version, run_id = bundle.version, bundle.run_id
    try:
        artifact = downloaded(client, params, version)
        evidence = evidence_bundle.verified(client, params, version, run_id=run_id, artifact=artifact)
        before = _digests(evidence, bundle.files)
        with replacing_directory(_PENDING / run_id) as staged:
            shutil.copytree(evidence, staged / mlflow_names.EVIDENCE)
            for file in bundle.files:
                tracing.remove(staged / mlflow_names.EVIDENCE / file, traces)
            with evidence_bundle.signed_tree(artifact, staged / mlflow_names.EVIDENCE) as tree:
                signing.sign(tree, staged / evidence_bundle.SIGNATURE, keys.signing_key(STATE))
            write_json(staged / _FACTS, {"version": version})
    except RegistryError as error:
        return Changed(version, run_id, bundle.files, f"it was not changed, and still holds the prompt: {error}"), frozenset()
    _upload(client, params, _PENDING / run_id)
    return bundle, before


def complete(client: RegistryClient, params: Params) -> None:
    """Upload what a command that was killed had ready."""
    for folder in sorted(_PENDING.glob("[!.]*")):
        _upload(client, params, folder)


def _upload(client: RegistryClient, params: Params, staged: Path) -> None:
    run_id, version = staged.name, str(read_json(staged / _FACTS)["version"])
    client.log_artifacts(run_id, str(staged / mlflow_names.EVIDENCE), mlflow_names.EVIDENCE)
    client.log_artifact(run_id, str(staged / evidence_bundle.SIGNATURE))
    if client.get_model_version(params.data.name, version).tags.get(mlflow_names.TAG_MLFLOW_RUN) == run_id:
        digest = tree_digest(staged / mlflow_names.EVIDENCE)
        client.set_model_version_tag(params.data.name, version, mlflow_names.TAG_EVIDENCE, digest)
    shutil.rmtree(staged)


def _digests(evidence: Path, files: tuple[str, ...]) -> frozenset[str]:
    from redistill.provenance.dvc_lock import md5_of

    places = {evidence / file for file in files} | {
        folder for file in files for folder in (evidence / file).parents if evidence in folder.parents
    }
    return frozenset(filter(None, map(md5_of, places)))
