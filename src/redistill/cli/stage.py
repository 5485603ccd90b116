"""``redistill stage NAME``: one DVC stage, by the tasks that work on this project."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redistill.cli.bundled import application_folders


def run_stage(name: str, arguments: Sequence[str]) -> int:
    if not Path("params.yaml").is_file():
        print(f"error: {Path.cwd().name}/ has no params.yaml: a stage runs in a project directory", file=sys.stderr)
        return 2
    folders = [str(folder) for folder in application_folders(Path.cwd())]
    sys.path[:0] = folders
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*folders, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])).rstrip(
        os.pathsep
    )
    # By name: they may be the project's own.
    running: Any = importlib.import_module("tasks.running.run_stage")
    return int(running.run_stage(name, arguments))
