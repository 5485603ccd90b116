"""The evidence bundle of a version: the evidence of its judgement, signed together with all of its registered files, in the MLflow run of its cycle.

A bundle is written once. No command promotes, and no re-test of the champion passes, a version whose bundle does not verify.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redistill.errors import RegistryError
from redistill.io.digests import tree_digest
from redistill.io.json import write_json
from redistill.io.sealed import SUFFIX, seal
from redistill.params import Params
from redistill.provenance import keys, mlflow_names, signing
from tasks.paths import ARTIFACTS, CODE, LOCK, SOURCES, STATE
from tasks.registry.artifact import Artifact, downloaded, private_folder
from tasks.registry.client import RegistryClient
from tasks.registry.loading import loading
from tasks.registry.runs_and_versions import connect

_FILES = (LOCK, SOURCES, CODE, Path("dvc.lock"), Path("dvc.yaml"), Path("params.yaml"))
SIGNATURE = "bundle.sig"
_WHOLE, _CHECKPOINT = "artifact", "weights"
"""Where a bundle has the registered files: all of them, or in earlier bundles only those of the checkpoint."""
_DESCRIPTION_CHARS = 5000
_TOLD: set[str] = set()
"""Versions of which this process has said that their bundle lists fewer files."""


def attach(params: Params, mlflow_run_id: str, version: str, judgement: dict[str, Any], sealed: dict[str, Any] | None) -> None:
    """The bundle of a cycle's candidate: report, outcomes of every arm, locks, params and the judgement."""
    results = {f"benchmark/{f.name}": f for f in sorted((ARTIFACTS / "benchmark").iterdir()) if f.is_dir()}
    if params.promote.sealed:
        results |= {f"heldout/{f.name}": f for f in sorted((ARTIFACTS / "heldout").iterdir()) if f.is_dir()}
    write(params, mlflow_run_id, version, judgement, sealed, results, ARTIFACTS / "report")


def write(
    params: Params,
    mlflow_run_id: str,
    version: str,
    judgement: dict[str, Any],
    sealed: dict[str, Any] | None,
    results: dict[str, Path],
    report: Path | None,
) -> None:
    """Put the evidence into the run, signed with the weights, and bind it to the version.

    Args:
        sealed: the decision with what was measured on sealed rows; it is put into a sealed file.
        results: folders of results by their place in the bundle.
    """
    client = connect(params)
    with tempfile.TemporaryDirectory(dir=STATE) as scratch:
        evidence = Path(scratch) / mlflow_names.EVIDENCE
        evidence.mkdir()
        for file in _FILES:
            if file.is_file():
                shutil.copy(file, evidence)
        if report is not None:
            shutil.copytree(report, evidence / "report")
        for place, folder in results.items():
            shutil.copytree(folder, evidence / place)
        if report is not None and (ARTIFACTS / "calibration").is_dir():
            shutil.copytree(ARTIFACTS / "calibration", evidence / "calibration")
        write_json(evidence / "judgement.json", judgement)
        if sealed is not None:
            seal(evidence / f"decision{SUFFIX}", json.dumps(sealed).encode())
        _signed(client, params, mlflow_run_id, version, evidence, trained=report is not None)
    decision = judgement["decision"]
    tags = {
        mlflow_names.TAG_VERDICT: decision["verdict"],
        mlflow_names.TAG_REASONS: " | ".join(decision["reasons"])[:5000],
        mlflow_names.TAG_QUESTION: judgement["question"],
    }
    for key, value in tags.items():
        client.set_model_version_tag(params.data.name, version, key, value)
    if report is not None and (card := report / "model-card.md").is_file():
        client.update_model_version(params.data.name, version, _shortened(card.read_text(encoding="utf-8")))


def _shortened(card: str) -> str:
    """The registry's page shows the card without its metadata block, as far as its column holds."""
    body = card.split("---\n", 2)[-1].strip()
    return body if len(body) <= _DESCRIPTION_CHARS else body[: _DESCRIPTION_CHARS - 60] + "\n\n(cut; the whole card is in the evidence)"


def is_current(params: Params, version: str, judgement: dict[str, Any]) -> bool:
    """Whether the version's newest bundle has this judgement already; a champion keeps the bundle of its promotion."""
    tags = connect(params).get_model_version(params.data.name, version).tags
    recorded = (tags.get(mlflow_names.TAG_QUESTION), tags.get(mlflow_names.TAG_VERDICT))
    return mlflow_names.TAG_EVIDENCE in tags and (
        judgement["is_champion"] or recorded == (judgement["question"], judgement["decision"]["verdict"])
    )


def _signed(client: RegistryClient, params: Params, mlflow_run_id: str, version: str, evidence: Path, *, trained: bool) -> None:
    """Sign evidence and all registered files as one tree, then store evidence and signature and point the version at them.

    Lineage and reproduction start from ``trained`` bundles. A later judgement is stored beside such a bundle and never replaces it.
    """
    artifact = downloaded(client, params, version)
    signature = evidence.parent / SIGNATURE
    with signed_tree(artifact, evidence) as tree:
        signing.sign(tree, signature, keys.signing_key(STATE))
    client.log_artifacts(mlflow_run_id, str(evidence), mlflow_names.EVIDENCE)
    client.log_artifact(mlflow_run_id, str(signature))
    tags = client.get_model_version(params.data.name, version).tags
    pointers = {mlflow_names.TAG_JUDGED_RUN: mlflow_run_id}
    if trained or mlflow_names.TAG_EVIDENCE not in tags:
        pointers |= {mlflow_names.TAG_EVIDENCE: tree_digest(evidence), mlflow_names.TAG_MLFLOW_RUN: mlflow_run_id}
    for key, value in pointers.items():
        client.set_model_version_tag(params.data.name, version, key, value)


def run_of(client: RegistryClient, params: Params, version: str, *, newest: bool = False) -> str | None:
    """The MLflow run that holds a version's bundle: of the cycle that trained it, or of the last judgement."""
    tags: dict[str, str] = client.get_model_version(params.data.name, version).tags
    return tags.get(mlflow_names.TAG_JUDGED_RUN if newest else mlflow_names.TAG_MLFLOW_RUN)


def verified(
    client: RegistryClient,
    params: Params,
    version: str,
    *,
    newest: bool = False,
    artifact: Artifact | None = None,
    run_id: str | None = None,
) -> Path:
    """The folder with a version's evidence, after a check of its signature over evidence and all registered files.

    ``artifact`` has the registered files if they were downloaded just now. ``run_id`` names the MLflow run of a certain bundle. ``newest`` selects the last judgement, which may be of `redistill gate`;
    otherwise it is the bundle of the cycle that trained the version.

    Raises:
        RegistryError: there is no bundle, it was changed, or the registered files are not the signed ones.
        RegistryUnavailable: the place where it is kept does not answer, or refuses us.
    """
    import mlflow

    tags = client.get_model_version(params.data.name, version).tags
    run_id = run_id or run_of(client, params, version, newest=newest)
    problem = f"version {version} of {params.data.name} cannot be verified: "
    if not run_id or mlflow_names.TAG_EVIDENCE not in tags:
        raise RegistryError(problem + f"it has no evidence bundle; run `redistill gate {params.data.name}/{version}` first")
    folder = private_folder("bundles", f"{version}-{run_id}")
    try:
        with loading("its bundle", f"runs:/{run_id}/"):
            for part in (mlflow_names.EVIDENCE, SIGNATURE):
                mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=part, dst_path=str(folder))
        _verify(version, artifact or downloaded(client, params, version), folder)
    except RegistryError as error:
        raise type(error)(problem + str(error)) from None
    return folder / mlflow_names.EVIDENCE


def _verify(version: str, artifact: Artifact, folder: Path) -> None:
    """Check a bundle by the files that it lists. Earlier bundles list the checkpoint, and nothing beside it."""
    names = signing.listed(folder / SIGNATURE)
    parts = {_WHOLE: artifact.root}
    if any(name.startswith(f"{_CHECKPOINT}/") for name in names):
        parts = {_CHECKPOINT: artifact.weights}
    with _tree({**parts, mlflow_names.EVIDENCE: folder / mlflow_names.EVIDENCE}) as tree:
        signing.verify(tree, folder / SIGNATURE, keys.public_keys(STATE))
    if _CHECKPOINT in parts and version not in _TOLD:
        _TOLD.add(version)
        beside = sum(1 for file in artifact.root.rglob("*") if file.is_file() and not file.is_relative_to(artifact.weights))
        print(
            f"version {version}: its bundle was signed by an earlier redistill; it lists the checkpoint and the evidence, but not the {beside} other files of the version"
        )


@contextmanager
def signed_tree(artifact: Artifact, evidence: Path) -> Iterator[Path]:
    """All registered files and the evidence as the one folder that is signed."""
    with _tree({_WHOLE: artifact.root, mlflow_names.EVIDENCE: evidence}) as tree:
        yield tree


@contextmanager
def _tree(parts: dict[str, Path]) -> Iterator[Path]:
    """The parts of a bundle as one folder; hard links where the file system has them, so that nothing is copied."""
    with tempfile.TemporaryDirectory(dir=STATE) as scratch:
        for name, source in parts.items():
            shutil.copytree(source, Path(scratch) / name, copy_function=_linked)
        yield Path(scratch)


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
