"""What every command needs: the flows and tasks that work on this project, and one way to print."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from redistill.errors import ConfigError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout; logs go to stderr.")]


def use_application() -> None:
    """Make ``flows`` and ``tasks`` importable, here and in child processes: the project's own where it has them, else those of this package.

    Raises:
        ConfigError: this directory is not a project.
    """
    from redistill.cli.bundled import application_folders

    for name in ("params.yaml", "dvc.yaml"):
        if not Path(name).is_file():
            raise ConfigError(
                f"{Path.cwd().name}/ has no {name}: redistill runs from a project directory; go to one, name it with -C DIR, "
                "or make one with `redistill init DIR`"
            )
    folders = [str(folder) for folder in application_folders(Path.cwd())]
    sys.path[:0] = folders
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*folders, os.environ.get("PYTHONPATH", "")]))


def application(module: str) -> Any:
    """Import a module of ``flows`` or ``tasks``. By name, since a project may have its own."""
    use_application()
    return importlib.import_module(module)


def show(result: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    if as_json:
        sys.stdout.flush()
        print(json.dumps(result, ensure_ascii=False, default=str))
    else:
        print("\n".join(lines))
