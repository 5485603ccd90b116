"""What every command needs: the project's own code, and one way to print."""

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


def application(module: str) -> Any:
    """Import a module of the project's own ``flows`` or ``tasks``, or say that there are none.

    By name, since the wheel holds neither: they belong to the project that the command is called in.
    """
    if not Path("flows/distill_student.py").is_file():
        raise ConfigError(
            f"{Path.cwd().name}/ has no flows/distill_student.py: redistill runs from a project directory; go to one, or name it with -C DIR"
        )
    sys.path.insert(0, str(Path.cwd()))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    return importlib.import_module(module)


def show(result: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    if as_json:
        sys.stdout.flush()
        print(json.dumps(result, ensure_ascii=False, default=str))
    else:
        print("\n".join(lines))
