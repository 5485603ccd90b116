"""``redistill init``: makes a project from a user's file, without questions."""

from __future__ import annotations

import importlib.util
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from redistill.cli.new_project import (
    FEWEST_ROWS,
    PACKAGED_CONFIG,
    PACKAGED_TEACHER,
    Teacher,
    default_model,
    is_hub_id,
    params_values,
    proposed_rows,
    write_project,
)
from redistill.cli.project import Json, show
from redistill.data.inspection import Inspection, Task, inspect
from redistill.errors import ConfigError


def init(
    directory: Annotated[Path, typer.Argument(help="Directory of the new project. It may contain your data already.", metavar="DIR")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Labelled rows: JSONL, CSV or Parquet. Copied into DIR/data, unless the file is in DIR.", metavar="FILE"
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="record, classification, json or generation. Default: classification, json or generation, guessed from the labels.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="The teacher model: a directory, a hub id, or openai:MODEL for an endpoint.", metavar="MODEL"),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Column of the messages, if it is not clear.", metavar="COLUMN")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column of the labels, if it is not clear.", metavar="COLUMN")] = None,
    as_json: Json = False,
) -> None:
    """Make a project: params.yaml, dvc.yaml, .gitignore and licence pages to fill in. Asks no questions and overwrites nothing.

    Columns, task, labels, languages and lengths are read from FILE. Without FILE, the project gets a small example.

    Example: redistill init triage --data messages.csv
    """
    if task not in (None, "record", "classification", "json", "generation"):
        raise ConfigError(f"--task {task}: it must be record, classification, json or generation")
    if (directory / "params.yaml").exists():
        raise ConfigError(f"{directory} is a project already: it has a params.yaml, and nothing is overwritten")
    chosen = _teacher(teacher, directory)
    source, facts = _source(directory, data, task, text, label)  # type: ignore[arg-type]
    if facts.unlabelled:
        raise ConfigError(
            f"{source}: {facts.unlabelled} of {facts.rows} rows have no label in column {facts.label!r}; put them into a file of their own, make the project "
            "with the labelled ones, and add the other file to data.source with splits {pool: 0.9, calibration: 0.1}"
        )
    rows = proposed_rows(facts, chosen)
    values = params_values(directory, source, facts, chosen, rows)
    made = write_project(directory, values, chosen, source, data)
    _show(directory, made, facts, chosen, rows, as_json)


def _teacher(model: str | None, directory: Path) -> Teacher:
    engine = "vllm" if importlib.util.find_spec("vllm") is not None else "transformers"
    model = model or default_model()
    if model.startswith("openai:"):
        if model == "openai:":
            raise ConfigError("--teacher openai:MODEL needs the name of a model that the endpoint has")
        return Teacher(model.removeprefix("openai:"), "openai")
    if model.startswith(("package:", "models:/")):
        return Teacher(model, engine, PACKAGED_CONFIG if model == PACKAGED_TEACHER else None)
    if Path(model).is_dir():
        file = Path(model) / "config.json"
        if not file.is_file():
            raise ConfigError(f"--teacher {model}: the directory has no config.json; a checkpoint in hub layout is needed")
        config = json.loads(file.read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        inside = Path(model).resolve().is_relative_to(directory.resolve())
        place = os.path.relpath(model, directory) if inside else str(Path(model).resolve())
        return Teacher(place, engine, config if {"num_hidden_layers", "hidden_size"} <= config.keys() else None)
    if is_hub_id(model):
        return Teacher(model, engine)
    raise ConfigError(
        f"--teacher {model}: no such directory, and not a hub id (owner/name), package:NAME/FILE.gguf, models:/NAME/VERSION or openai:MODEL"
    )


def _source(directory: Path, data: Path | None, task: Task | None, text: str | None, label: str | None) -> tuple[Path, Inspection]:
    if data is None:
        example = Path(str(files("redistill.cli").joinpath("example.csv")))
        return Path("data/example.csv"), inspect(example, task, text, label)
    if not data.is_file():
        raise ConfigError(f"--data {data}: no such file")
    inside = data.resolve().is_relative_to(directory.resolve())
    return data.resolve().relative_to(directory.resolve()) if inside else Path("data") / data.name, inspect(data, task, text, label)


def _show(directory: Path, made: list[str], facts: Inspection, teacher: Teacher, rows: int | None, as_json: bool) -> None:
    needs = []
    if teacher.endpoint:
        needs = [
            "export REDISTILL_TEACHER_URL=https://…/v1      # the endpoint's address",
            "export REDISTILL_TEACHER_API_KEY=…             # its key, if it wants one",
        ]
    if teacher.needs_hub:
        needs += ["export HF_HUB_OFFLINE=0                       # a hub id is downloaded once"]
    kind: str = facts.task
    if facts.labels:
        kind += f" with {len(facts.labels)} labels"
    elif facts.schema:
        kind += f" with the keys {', '.join(facts.schema['properties'])}"
    lines = [
        f"{directory}: {', '.join(made)}",
        f"{facts.rows} rows, text in {facts.text or 'messages'!r}, labels in {facts.label!r}: {kind}"
        + (f"; the first cycle uses {rows} of them (data.max_rows)" if rows else "")
        + (", which takes at most about half an hour here" if rows and teacher.parameters and rows > FEWEST_ROWS else ""),
        "",
        "Next:",
        *(f"  {line}" for line in needs),
        f"  1. read the terms; fill in {directory}/data/licences/*.md, and governance.licenses in {directory}/params.yaml",
        f"     (`redistill -C {directory} lock` prints the digests to put into terms_sha256)",
        f"  2. redistill -C {directory} run",
        f"  3. redistill -C {directory} report",
    ]
    show(
        {"directory": str(directory), "made": made, "task": facts.task, "rows": facts.rows, "max_rows": rows, "teacher": teacher.model},
        as_json,
        lines,
    )
