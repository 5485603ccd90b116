"""A version that is live, with its signature checked, and some of the completions that it wrote when it was measured."""

from __future__ import annotations

from pathlib import Path

from redistill.data.types import Prompt
from redistill.errors import RegistryError
from redistill.evaluation.types import Outcome
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.serving.types import KnownCompletion, ServedVersion
from tasks.paths import ARTIFACTS
from tasks.promotion.live_system import verify_live
from tasks.registry import evidence_bundle
from tasks.registry.artifact import Artifact, downloaded
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import connect
from tasks.registry.transitions import history

_KNOWN = 8
"""Known prompts that a server must complete."""


def server_name(params: Params, version: str) -> str:
    """The name under which a server lists a version."""
    return f"{params.data.name}@{version}"


def verified_version(params: Params, version: str) -> tuple[ServedVersion, Artifact]:
    """The version and its files, after a check that a signed judgement promoted it as it is live.

    Raises:
        RegistryError: it does not verify, or was never promoted.
    """
    client = connect(params)
    artifact = live_artifact(client, params, version)
    return ServedVersion(version, server_name(params, version), _known(client, params, version, artifact)), artifact


def live_artifact(client: RegistryClient, params: Params, version: str) -> Artifact:
    """The files of a live version, verified.

    Raises:
        RegistryError: see ``verified_version``.
    """
    artifact = downloaded(client, params, version)
    verify_live(client, params, history(client, params), version, artifact)
    return artifact


def _known(client: RegistryClient, params: Params, version: str, artifact: Artifact) -> tuple[KnownCompletion, ...]:
    """Completions of monitor rows in the signed bundle whose prompts are on this machine; none where the prompts are elsewhere."""
    evidence = evidence_bundle.verified(client, params, version, artifact=artifact)
    outcomes = own_outcomes(evidence, client, params, version)
    prompts = {p.id: p for split in ("monitor", "heldout") for p in _prompts(split)}
    known = [KnownCompletion(prompts[o.prompt_id], o.response, o.confidences) for o in outcomes if o.prompt_id in prompts]
    return tuple(known[:_KNOWN])


def own_outcomes(evidence: Path, client: RegistryClient, params: Params, version: str) -> list[Outcome]:
    """The outcomes of the arm that the version is."""
    digest = client.get_model_version(params.data.name, version).tags.get(mlflow_names.TAG_MODEL_DIGEST)
    for report in sorted((evidence / "benchmark").glob("*/report.json")):
        if read_json(report)["model_digest"] == digest:
            return read_records(report.parent / "outcomes.parquet", Outcome)
    raise RegistryError(
        f"the bundle of version {version} has no benchmark of its own weights; judge it again with `redistill gate {version}`"
    )


def _prompts(split: str) -> list[Prompt]:
    file = ARTIFACTS / "prompts" / f"{split}.parquet"
    return read_records(file, Prompt) if file.is_file() else []
