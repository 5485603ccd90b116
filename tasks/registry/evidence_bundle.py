"""The evidence bundle of a version: the evidence of its judgement, signed together with its weights, in the MLflow run of its cycle.

A bundle is written once. No command promotes, and no re-test of the champion passes, a version whose bundle does not verify.
"""

from __future__ import annotations

import atexit
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
from redistill.provenance import mlflow_names, signing
from tasks.paths import ARTIFACTS, CODE, LOCK, SOURCES, STATE
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import connect

_FILES = (LOCK, SOURCES, CODE, Path("dvc.lock"), Path("dvc.yaml"), Path("params.yaml"))
SIGNATURE = "bundle.sig"
_DESCRIPTION_CHARS = 5000


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
    """Sign evidence and weights as one tree, then store evidence and signature and point the version at them.

    Lineage and reproduction start from ``trained`` bundles. A later judgement is stored beside such a bundle and never replaces it.
    """
    weights = registered_weights(client, params, version)
    signature = evidence.parent / SIGNATURE
    with _tree(weights, evidence) as tree:
        signing.sign(tree, signature, signing.signing_key(STATE))
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
    client: RegistryClient, params: Params, version: str, *, newest: bool = False, weights: Path | None = None, run_id: str | None = None
) -> Path:
    """The folder with a version's evidence, after a check of its signature over evidence and registered weights.

    ``weights`` are the registered ones if they were downloaded just now. ``run_id`` names the MLflow run of a certain bundle. ``newest`` selects the last judgement, which may be of `redistill gate`;
    otherwise it is the bundle of the cycle that trained the version.

    Raises:
        RegistryError: there is no bundle, it was changed, or the weights are not the signed ones.
    """
    import mlflow

    tags = client.get_model_version(params.data.name, version).tags
    run_id = run_id or run_of(client, params, version, newest=newest)
    problem = f"version {version} of {params.data.name} cannot be verified: "
    if not run_id or mlflow_names.TAG_EVIDENCE not in tags:
        raise RegistryError(problem + f"it has no evidence bundle; run `redistill gate {params.data.name}/{version}` first")
    folder = _private_folder("bundles", f"{version}-{run_id}")
    try:
        for part in (mlflow_names.EVIDENCE, SIGNATURE):
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=part, dst_path=str(folder))
        with _tree(weights or registered_weights(client, params, version), folder / mlflow_names.EVIDENCE) as tree:
            signing.verify(tree, folder / SIGNATURE, signing.verify_key(STATE))
    except RegistryError as error:
        raise RegistryError(problem + str(error)) from None
    except (mlflow.MlflowException, OSError) as error:
        raise RegistryError(problem + f"its bundle cannot be loaded ({str(error).splitlines()[0][:200]})") from error
    return folder / mlflow_names.EVIDENCE


def registered_weights(client: RegistryClient, params: Params, version: str) -> Path:
    """A version's checkpoint as the registry has it now, not a local copy, because others will load what the registry has.

    Raises:
        RegistryError: it cannot be loaded, has more than one checkpoint, or its digest is not the registered one.
    """
    import mlflow

    digest = client.get_model_version(params.data.name, version).tags.get(mlflow_names.TAG_MODEL_DIGEST)
    target = _private_folder("models", f"{params.data.name}-{version}")
    try:
        mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{params.data.name}/{version}", dst_path=str(target))
    except (mlflow.MlflowException, OSError) as error:
        raise RegistryError(f"its weights cannot be loaded ({str(error).splitlines()[0][:200]})") from error
    folders = sorted(p.parent for p in target.rglob("config.json"))
    if len(folders) != 1:
        raise RegistryError(f"it has {len(folders)} checkpoints, but must have exactly one")
    if digest is not None and tree_digest(folders[0]) != digest:
        raise RegistryError(f"its weights do not have the registered digest {digest[:12]}; they were changed after the registration")
    return folders[0]


def _private_folder(kind: str, name: str) -> Path:
    """A new folder that only this process uses, removed when it ends.

    In a shared folder one reader would remove what another one is about to verify, and a sound champion would fail its re-test.
    """
    parent = STATE / kind
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    atexit.register(shutil.rmtree, folder.absolute(), ignore_errors=True)
    return folder


def weights_of(client: RegistryClient, params: Params, version: str) -> Path:
    """A version's checkpoint to measure: the arm on disk if it is the same, else from the registry.

    Raises:
        RegistryError: as ``registered_weights``.
    """
    digest = client.get_model_version(params.data.name, version).tags.get(mlflow_names.TAG_MODEL_DIGEST)
    here = ARTIFACTS / "students" / params.promote.arm
    if digest and here.is_dir() and tree_digest(here) == digest:
        return here
    return registered_weights(client, params, version)


@contextmanager
def _tree(weights: Path, evidence: Path) -> Iterator[Path]:
    """Weights and evidence as one folder; hard links where the file system has them, so that nothing is copied."""
    with tempfile.TemporaryDirectory(dir=STATE) as scratch:
        for name, source in (("weights", weights), ("evidence", evidence)):
            shutil.copytree(source, Path(scratch) / name, copy_function=_linked)
        yield Path(scratch)


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
