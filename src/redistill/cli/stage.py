"""``redistill stage NAME``: runs one DVC stage with the ``tasks`` package of this project."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from redistill.cli.bundled import use_application
from redistill.errors import ConfigError


def run_stage(name: str, arguments: Sequence[str]) -> int:
    """Run the stage and return its exit code. Errors are printed here, in one line, because the other commands are not loaded."""
    try:
        use_application()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    # By name: they may be the project's own.
    running: Any = importlib.import_module("tasks.running.run_stage")
    return int(running.run_stage(name, arguments))
