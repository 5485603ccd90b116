"""What every command needs: the ``flows`` and ``tasks`` packages of this project, and a function that prints the result."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Annotated, Any

import typer

from redistill.cli.bundled import use_application

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout; logs go to stderr.")]


def application(module: str) -> Any:
    """Import a module of ``flows`` or ``tasks``. By name, since a project may have its own."""
    use_application()
    return importlib.import_module(module)


def flow(module: str) -> Any:
    """Import a module of ``flows`` to run its flow here: with the Prefect server that the environment names, else with one for this command."""
    application("tasks.operations.temporary_prefect").ensure_prefect()
    return application(module)


def show(result: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    if as_json:
        sys.stdout.flush()
        print(json.dumps(result, ensure_ascii=False, default=str))
    else:
        print("\n".join(lines))
