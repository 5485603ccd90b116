"""The ledger of looks in MLflow: one run per entry, in a separate experiment, and the digest of the last entry as a tag of the registered model."""

from __future__ import annotations

import dataclasses
import json

from redistill.params import Params
from redistill.promotion.alpha_spending import checked, entry_digest
from redistill.promotion.types import Look
from redistill.provenance import mlflow_names
from tasks.paths import STATE
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import registered_model, searched_runs


def read(client: RegistryClient, params: Params, heldout: str) -> list[Look]:
    """The looks at one held-out set so far, in order.

    Raises:
        RegistryError: the chain is broken.
    """
    experiment = client.get_experiment_by_name(mlflow_names.looks_experiment(params.data.name))
    if experiment is None:
        entries = []
    else:
        runs = searched_runs(client, experiment.experiment_id, f"tags.`{mlflow_names.TAG_HELDOUT}` = '{heldout}'")
        entries = [Look(**json.loads(run.data.tags[mlflow_names.TAG_LOOK])) for run in runs]
    head = registered_model(client, params.data.name).tags.get(mlflow_names.looks_head(heldout))
    return checked(entries, head)


def append(client: RegistryClient, params: Params, look: Look) -> None:
    """Append an entry, then write its digest to the tag of the registered model. A decision is published only after both."""
    name = mlflow_names.looks_experiment(params.data.name)
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name, mlflow_names.artifact_root(STATE))
    tags = {
        mlflow_names.TAG_KIND: "look",
        mlflow_names.TAG_HELDOUT: look.heldout,
        mlflow_names.TAG_LOOK: json.dumps(dataclasses.asdict(look)),
    }
    run = client.create_run(experiment_id, tags=tags, run_name=f"look-{look.number}-{look.heldout[:8]}")
    client.set_terminated(run.info.run_id, "FINISHED")
    client.set_registered_model_tag(params.data.name, mlflow_names.looks_head(look.heldout), entry_digest(look))
