"""``python -m tasks.running.stage_command NAME [ARGUMENT ...]``: a stage's function with its sections of params.yaml, and one clear line where it fails.

A stage is a function whose parameters are its arguments, such as the arm, and typed sections of params.yaml. Which section is found by type, so the
signature is the list of what the stage depends on; a contract test holds ``dvc.yaml`` to it. Stages do not import this module, so that a change here
makes no stage run again.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redistill.config.base import Section
from redistill.config.file import load_sections
from redistill.errors import ConfigError, DataError, RedistillError
from redistill.io.atomic import is_refused_file, refused_file
from redistill.runtime import environment
from redistill.runtime.cpu import keep_freed_memory
from tasks.locking.code_lock import check_code_is_locked
from tasks.locking.licence_check import require_reviewed
from tasks.running.die_with_parent import die_with_parent


def sections_of(function: Callable[..., None]) -> dict[str, type[Section]]:
    """Parameter name → section of params.yaml, for the parameters of a stage function that are sections."""
    hints = typing.get_type_hints(function)
    return {name: kind for name, kind in hints.items() if hasattr(kind, "SECTION")}


def arguments_of(function: Callable[..., None]) -> list[str]:
    """The other parameters of a stage function: what follows its name on the command line."""
    sections = sections_of(function)
    return [name for name in inspect.signature(function).parameters if name not in sections]


def stage_function(name: str) -> Callable[..., None]:
    function: Callable[..., None] = getattr(importlib.import_module(f"tasks.stages.{name}"), name)
    return function


def main(name: str, arguments: Sequence[str]) -> None:
    """Run a stage. Exit codes are those of ``redistill``; a traceback is shown only where ``REDISTILL_DEBUG`` is set."""
    environment.silence()
    die_with_parent()
    keep_freed_memory()
    try:
        check_code_is_locked(name)
        if "--checkpoint" in arguments:
            _run_on_checkpoint(name, arguments)
        else:
            run(name, arguments)
    except RedistillError as error:
        if os.environ.get("REDISTILL_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if os.environ.get("REDISTILL_DEBUG") or not is_refused_file(error):
            raise
        print(f"error: {refused_file(error)}", file=sys.stderr)
        sys.exit(DataError.exit_code)


def run(name: str, arguments: Sequence[str]) -> None:
    """Call the stage's function.

    Raises:
        ConfigError: too many arguments or too few, or a problem of the stage's own sections.
    """
    # Here and not in each stage: `dvc repro` alone runs stages too, and a change of the rules for reviews makes no stage run again.
    require_reviewed()
    function = stage_function(name)
    names = arguments_of(function)
    if len(arguments) != len(names):
        raise ConfigError(f"usage: {' '.join(['redistill stage', name, *(n.upper() for n in names)])}")
    values = dict(zip(names, arguments, strict=True))
    function(**values, **_loaded(function, **values))


def _loaded(function: Callable[..., None], **names: str) -> dict[str, Any]:
    kinds = sections_of(function)
    return dict(zip(kinds, load_sections(list(kinds.values()), **names), strict=True))


def _run_on_checkpoint(name: str, arguments: Sequence[str]) -> None:
    """``--checkpoint DIR --out PATH --who NAME``: the same measurement for weights that no stage wrote."""
    parser = argparse.ArgumentParser(prog=f"redistill stage {name}", description="Measure any checkpoint on this project's labelled rows.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--who", default="champion")
    options = parser.parse_args(arguments)
    function = getattr(importlib.import_module(f"tasks.stages.{name}"), "ON_CHECKPOINT", None)
    if function is None:
        raise ConfigError(f"stage {name} cannot measure a checkpoint; only benchmark, heldout and timing can")
    require_reviewed()
    function(options.who, options.checkpoint, options.out, **_loaded(function))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
