"""``redistill eject``: copies flows and tasks into the project, so that the user can change them."""

from __future__ import annotations

import shutil
from pathlib import Path

from redistill.cli.bundled import PARTS, bundled_folder
from redistill.cli.project import Json, show
from redistill.errors import ConfigError


def eject(as_json: Json = False) -> None:
    """Copy flows/ and tasks/ from this package into the project. From then on, the project uses its own copies. dvc.yaml does not change.

    Use this for changes that params.yaml does not offer, such as another stage. Later versions of redistill do not change these copies.
    Put your own modules into tasks/: a change of a module makes stages run again only there.

    Example: redistill -C triage eject
    """
    if not Path("params.yaml").is_file():
        raise ConfigError(f"{Path.cwd().name}/ has no params.yaml; eject runs in a project, or name one with -C DIR")
    there = [part for part in PARTS if Path(part).exists()]
    if there:
        raise ConfigError(
            f"{' and '.join(f'{part}/' for part in there)} exist in this project already, and nothing is overwritten; remove or rename them first"
        )
    for part in PARTS:
        shutil.copytree(bundled_folder() / part, part, ignore=shutil.ignore_patterns("__pycache__"))
    show({"copied": list(PARTS)}, as_json, [f"copied {' and '.join(f'{part}/' for part in PARTS)}; this project uses them from now on"])
