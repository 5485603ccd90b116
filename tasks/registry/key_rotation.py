"""``redistill key``: which keys this project trusts, and another signing key in the place of the present one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redistill.data.forgotten import read_tombstones
from redistill.errors import ConfigError, RegistryError
from redistill.params import Params
from redistill.provenance import keys, mlflow_names
from redistill.runtime.service_failures import explain, registry_failure
from tasks.paths import FORGOTTEN, STATE
from tasks.registry import transitions
from tasks.registry.client import RegistryClient
from tasks.registry.evidence_bundle import SIGNATURE
from tasks.registry.runs_and_versions import connect, searched_runs
from tasks.results import memos


def rotate(params: Params, reason: str, previous: Path | None = None) -> dict[str, Any]:
    """Sign with another key from now on. What the old one has signed still verifies; whatever else it signs is not trusted.

    It also replaces a lost key, of which only the public half is left.

    Args:
        previous: the old public key. It must be named where the team names its key in the environment, and where no half of the old one is left here.

    Raises:
        ConfigError: no reason, or the old public key is not known.
        RegistryError: MLflow failed; then nothing has changed.
    """
    if not reason.strip():
        raise ConfigError("give a reason with --reason; it is recorded in the history")
    client = connect(params)
    transitions.recover(client, params)
    named = os.environ.get(keys.SIGNING_KEY) or os.environ.get(keys.VERIFY_KEY)
    pem = _old_public_key(previous, named)
    signatures = list(_signatures(client, params))
    if named and keys.key_id(pem) == keys.public_keys(STATE)[0].id:
        raise ConfigError(f"{named} is still the key {keys.key_id(pem)} that --previous names; put the new key there first")
    with transitions.registry_lock():
        old = keys.retire(STATE, pem, signatures)
        if not named:
            keys.replace_own(STATE)
        new = keys.public_keys(STATE)[0]
    sentence = f"key {old.id} was replaced by {new.id}; {len(signatures)} earlier signatures stay valid: {reason}"
    transitions.record(client, params, "key-rotated", None, sentence, transitions.live(client, params))
    return {"previous": old.id, "key": new.id, "signatures": len(signatures)}


def known(params: Params) -> list[dict[str, Any]]:
    """Every key whose signatures are trusted here, the present one first.

    Raises:
        RegistryError: there is none yet.
    """
    return [
        {
            "id": key.id,
            "signs": key.signed is None,
            "retired_at": key.retired_at,
            "signatures": None if key.signed is None else len(key.signed),
        }
        for key in keys.public_keys(STATE)
    ]


def _old_public_key(previous: Path | None, named: str | None) -> bytes:
    if previous is not None:
        if not previous.is_file():
            raise ConfigError(f"--previous {previous}: no such file")
        pem = previous.read_bytes()
        keys.key_id(pem, previous)
        return pem
    if named:
        raise ConfigError(f"the environment names the key {named}; put the new key there, and name the old public key with --previous FILE")
    try:
        return keys.verify_key(STATE).read_bytes()
    except RegistryError:
        raise ConfigError(
            "no half of the old key is here; name its public key with --previous FILE, or judge versions again with `redistill gate VERSION`, which signs them anew"
        ) from None


def _signatures(client: RegistryClient, params: Params) -> Iterator[bytes]:
    """Everything that was signed for this data: bundles, lines of the history and looks, tombstones, and what is remembered on this machine."""
    yield from memos.signatures()
    yield from (stone.signature.encode() for stone in read_tombstones(FORGOTTEN) if stone.signature)
    name = params.data.name
    for experiment_name in (mlflow_names.history_experiment(name), mlflow_names.looks_experiment(name)):
        experiment = client.get_experiment_by_name(experiment_name)
        for run in [] if experiment is None else searched_runs(client, experiment.experiment_id, ""):
            if signature := run.data.tags.get(mlflow_names.TAG_SIGNATURE):
                yield signature.encode()
    for run_id in sorted(_runs_with_bundles(client, params)):
        if (signature := _bundle_signature(run_id)) is not None:
            yield signature


def _runs_with_bundles(client: RegistryClient, params: Params) -> set[str]:
    tags = [version.tags for version in client.search_model_versions(f"name = '{params.data.name}'")]
    named = {each.get(tag) for each in tags for tag in (mlflow_names.TAG_MLFLOW_RUN, mlflow_names.TAG_JUDGED_RUN)}
    return {run for run in named | {event.judged_run for event in transitions.history(client, params)} if run}


def _bundle_signature(run_id: str) -> bytes | None:
    """None for a run whose bundle `redistill gc` has removed.

    Raises:
        RegistryError: MLflow does not respond: a signature that is left out would not be valid any more.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as scratch:
        try:
            if SIGNATURE not in {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(run_id)}:
                return None
            return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=SIGNATURE, dst_path=scratch)).read_bytes()
        except Exception as error:
            if not isinstance(error, OSError) and registry_failure(error) is None:
                raise
            raise RegistryError(
                f"the signature in run {run_id} cannot be read ({explain(error).line[:200]}); nothing was changed; try again"
            ) from error
