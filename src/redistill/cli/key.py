"""``redistill key``: the keys whose signatures are trusted, and another signing key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redistill.cli.project import Json, application, show

key_app = typer.Typer(no_args_is_help=True, help="List the keys that this project trusts, or replace its signing key.")


@key_app.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the keys whose signatures are trusted, the present one first."""
    from redistill.params import load_params

    known = application("tasks.registry.key_rotation").known(load_params())
    lines = [
        f"{key['id']}  {'signs' if key['signs'] else 'replaced ' + key['retired_at'][:10] + ', trusted for ' + str(key['signatures']) + ' signatures of before'}"
        for key in known
    ]
    show({"keys": known}, as_json, lines)


@key_app.command()
def rotate(
    reason: Annotated[str, typer.Option("--reason", help="The reason. It is recorded in the history.")] = "",
    previous: Annotated[
        Path | None, typer.Option("--previous", help="The old public key, where it is not in .redistill/keys.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign with a new key from now on, also where the old one is lost. What the old key has signed still verifies; nothing else that it signs is trusted."""
    from redistill.params import load_params

    result = application("tasks.registry.key_rotation").rotate(load_params(), reason, previous)
    lines = [
        f"key {result['previous']} was replaced by {result['key']}; {result['signatures']} earlier signatures stay valid",
        "next       copy .redistill/keys to the machines of the team, or the new public key to REDISTILL_VERIFY_KEY there; make a new backup",
    ]
    show(result, as_json, lines)
