"""The edge of every stage: read params once, hand the function its sections, end with one clear line.

A stage is a function whose parameters are typed sections of params.yaml. Which section is found by type, so the signature is the list of what the
stage depends on; a contract test holds ``dvc.yaml`` to it.
"""

from __future__ import annotations

import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redistill.config.base import Section
from redistill.config.file import load_sections
from redistill.errors import ConfigError, RedistillError
from redistill.runtime import environment
from redistill.runtime.cpu import keep_freed_memory
from tasks.running.fork_server import die_with_parent


def sections_of(function: Callable[..., None]) -> dict[str, type[Section]]:
    """Argument name → section of params.yaml, for the arguments of a stage function that are sections."""
    hints = typing.get_type_hints(function)
    return {name: kind for name, kind in hints.items() if hasattr(kind, "SECTION")}


def run(function: Callable[..., None], *names: str) -> None:
    """Run a stage function from the command line; ``names`` are its positional arguments such as the arm.

    Exit codes are DESIGN.md's; a traceback is shown only where ``REDISTILL_DEBUG`` is set.
    """
    environment.silence()
    die_with_parent()
    keep_freed_memory()
    try:
        given = sys.argv[1:]
        if len(given) != len(names):
            raise ConfigError(f"usage: python -m {_command()} {' '.join(n.upper() for n in names)}".rstrip())
        arguments = dict(zip(names, given, strict=True))
        function(**arguments, **_loaded(function, **arguments))
    except RedistillError as error:
        if os.environ.get("REDISTILL_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _command() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else "tasks.stages.STAGE"


def _loaded(function: Callable[..., None], **names: str) -> dict[str, Any]:
    kinds = sections_of(function)
    return dict(zip(kinds, load_sections(list(kinds.values()), **names), strict=True))


def run_on_checkpoint(function: Callable[..., None]) -> None:
    """``--checkpoint DIR --out PATH --who NAME``: the same measurement for weights that no stage made."""
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m {_command()}", description="Measure any checkpoint on the held-out rows.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--who", default="champion")
    given = parser.parse_args()
    environment.silence()
    die_with_parent()
    keep_freed_memory()
    try:
        function(given.who, given.checkpoint, given.out, **_loaded(function))
    except RedistillError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
