"""Checks of the ledger of looks: its chain, its numbers, its signatures, and what this machine has written to it."""

from __future__ import annotations

import json
from typing import Any

from redistill.errors import RegistryError
from redistill.io.json import read_json, write_json
from redistill.params import Params
from redistill.promotion.alpha_spending import checked, entry_digest
from redistill.promotion.ledger_rules import check_numbers
from redistill.promotion.types import Look
from redistill.provenance import mlflow_names
from tasks.paths import STATE
from tasks.registry import signed_entries
from tasks.registry.client import RegistryClient
from tasks.registry.runs_and_versions import registered_model

KIND = "look"
_WRITTEN = STATE / "heldout-looks"
Entry = tuple[str, Any]
"""Data name, and the MLflow run that holds the look."""


def look_of(run: Any) -> Look:
    return Look(**json.loads(run.data.tags[mlflow_names.TAG_LOOK]))


def checked_looks(client: RegistryClient, params: Params, names: set[str], heldout: str, entries: list[Entry]) -> list[Look]:
    """The looks in order, if the chain is complete up to the head of every project that wrote to it, and up to the last entry that this machine wrote."""
    looks = [look_of(run) for _, run in entries]
    for head in (*(_head(client, params, name, heldout) for name in sorted(names)), _written_here(heldout)):
        looks = checked(looks, head)
    check_numbers(looks)
    return looks


def foreign_looks(entries: list[Entry]) -> frozenset[str]:
    """Digests of entries that no key of this project signed. They count, since they can only use up the level; what they say was learned is not believed.

    Raises:
        RegistryError: an entry was changed, or one without a signature was added after entries were signed.
    """
    trusted, foreign, signed, unsigned = signed_entries.Trusted(), set(), list[Look](), list[tuple[Look, str]]()
    for name, run in entries:
        text, look = run.data.tags[mlflow_names.TAG_LOOK], look_of(run)
        trust = trusted.trust(text, run.data.tags.get(mlflow_names.TAG_SIGNATURE), KIND, name)
        if trust == "forged":
            raise _altered(look, "its signature is not valid")
        if trust == "signed":
            signed.append(look)
        elif trust == "foreign":
            foreign.add(entry_digest(look))
        else:
            unsigned.append((look, text))
    first = min(signed, key=lambda look: look.number, default=None)
    if first is None:
        return frozenset(foreign)
    if late := next((look for look, _ in unsigned if look.number >= first.number), None):
        raise _altered(late, "it has no signature, but entries before it have one")
    if first.pins and signed_entries.pin(text for _, text in unsigned) != first.pins:
        raise _altered(first, "it pins the unsigned entries before it, and they are not the same any more")
    return frozenset(foreign)


def _altered(look: Look, why: str) -> RegistryError:
    return RegistryError(
        f"the ledger of looks of held-out set {look.heldout[:12]} was altered at look {look.number}: {why}; "
        "restore MLflow from a backup, or use a new held-out set"
    )


def _written_here(heldout: str) -> str | None:
    """The digest of the last entry that this machine wrote: with it, whoever deletes the last entries and their tag is noticed here."""
    file = _WRITTEN / f"{heldout}.json"
    return None if not file.is_file() else str(read_json(file)["head"])


def _head(client: RegistryClient, params: Params, data_name: str, heldout: str) -> str | None:
    """The digest of the last entry that a project wrote. The model of another name may have been deleted since."""
    import mlflow

    try:
        model = registered_model(client, data_name) if data_name == params.data.name else client.get_registered_model(data_name)
    except mlflow.MlflowException:
        return None
    head: str | None = model.tags.get(mlflow_names.looks_head(heldout))
    return head


def remember(look: Look) -> None:
    """Record the last entry that this machine wrote about a set."""
    write_json(_WRITTEN / f"{look.heldout}.json", {"head": entry_digest(look)})
