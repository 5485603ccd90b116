"""Counts the nights that the champion has been on hold, in one tag of the registered model, so a crash does not lose it and every machine can read it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json

from redistill.params import Params
from redistill.promotion.retest import Hold, next_night
from redistill.provenance import mlflow_names
from tasks.registry import transitions
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import registered_model


def read(client: RegistryClient, params: Params) -> Hold | None:
    """The present count; None if the champion is not on hold, or if the tag cannot be read."""
    tag = registered_model(client, params.data.name).tags.get(mlflow_names.TAG_HOLD)
    try:
        return None if tag is None else Hold(**json.loads(tag))
    except (ValueError, TypeError):
        return None


def count_night(client: RegistryClient, params: Params, version: str) -> int:
    """Count tonight and return the number of nights; a second call in the same night adds nothing. It is one write, so a crash leaves no half of it."""
    with transitions.registry_lock():
        before = read(client, params)
        after = next_night(before, version, dt.datetime.now(dt.UTC))
        if after != before:
            client.set_registered_model_tag(params.data.name, mlflow_names.TAG_HOLD, json.dumps(dataclasses.asdict(after)))
        return after.nights


def clear(client: RegistryClient, params: Params) -> None:
    """Delete the count, because the champion passed its re-test."""
    with transitions.registry_lock():
        if mlflow_names.TAG_HOLD in registered_model(client, params.data.name).tags:
            client.delete_registered_model_tag(params.data.name, mlflow_names.TAG_HOLD)
