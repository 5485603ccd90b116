"""Where flows and tasks come from. The wheel contains them inside this package, so that no top-level ``flows`` or ``tasks`` is installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import redistill
from redistill.errors import ConfigError

_PACKAGE = Path(redistill.__file__).parent
PARTS = ("flows", "tasks")
_MARKS = ("flows/distill_student.py", "tasks/stages")
"""A folder called flows or tasks is redistill's only if it has one of these."""


def bundled_folder() -> Path:
    """The folder that holds this package's own ``flows`` and ``tasks``: inside an installed wheel, or the root of this repository's checkout."""
    installed = _PACKAGE / "application"
    return installed if installed.is_dir() else _PACKAGE.parents[1]


def use_application() -> None:
    """Make ``flows`` and ``tasks`` importable, here and in child processes: those of the project if it has them, otherwise those of this package.

    Raises:
        ConfigError: this directory is not a project.
    """
    project = Path.cwd()
    for name in ("params.yaml", "dvc.yaml"):
        if not (project / name).is_file():
            raise ConfigError(
                f"{project.name}/ has no {name}: redistill runs from a project directory; go to one, name it with -C DIR, "
                "or make one with `redistill init DIR`"
            )
    folders = [project] if any((project / mark).exists() for mark in _MARKS) else []
    places = [str(folder) for folder in dict.fromkeys([*folders, bundled_folder()])]
    sys.path[:0] = places
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*places, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
