"""``redistill labels``: rows that people label, out of the project and back in."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from redistill.cli.project import Json, application, show

labels_app = typer.Typer(no_args_is_help=True, help="Write the rows that people should label, and add what they labelled.")


class Purpose(StrEnum):
    """What the labelled rows are for."""

    HELDOUT = "heldout"
    MONITOR = "monitor"
    TRAIN = "train"
    RELABEL = "relabel"


@labels_app.command("export")
def export_rows(
    purpose: Annotated[
        Purpose,
        typer.Option(
            "--for",
            help="heldout or monitor: random rows, first those that no split uses, then the pool. train: rows that the plan of the last hold asks for. relabel: monitor rows whose label looks wrong.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The JSONL file to write.")] = Path("to-label.jsonl"),
    rows: Annotated[int, typer.Option("--rows", help="The most rows to ask for.", min=1)] = 50,
    teacher: Annotated[
        bool, typer.Option("--teacher", help="Show the teacher's completion too. Without it, people decide by themselves.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write rows to label: text, slice, why the row was chosen, and an empty label to fill in.

    Example: redistill labels export --for heldout --rows 40 --out to-label.jsonl
    """
    from redistill.params import load_params

    result = application("tasks.reporting.label_requests").export(load_params(), purpose.value, out, rows, teacher=teacher)
    lines = [
        f'{result["rows"]} rows for {result["purpose"]} in {result["file"]}; fill in the key "label" of each',
        f"then run `redistill labels import {result['file']} --into FILE`, where FILE is the JSONL source of that split",
    ]
    show(result, as_json, lines)


@labels_app.command("import")
def import_rows(
    file: Annotated[Path, typer.Argument(help="A file of `redistill labels export` with labels filled in.")],
    into: Annotated[Path, typer.Option("--into", help="A JSONL source of data.source that gets the rows.")],
    by: Annotated[str | None, typer.Option("--by", help="Who labelled them. Left out: REDISTILL_USER, else the account.")] = None,
    as_json: Json = False,
) -> None:
    """Check labelled rows, and add them to a source with who and when. If one label is wrong, nothing is added.

    A row that is in the source already gets the new label. Rows without a label are left out, so a file may be imported while people still work on it.

    Example: redistill labels import to-label.jsonl --into data/heldout.jsonl
    """
    from redistill.params import load_params

    result = application("tasks.reporting.label_import").import_labels(load_params(), file, into, by)
    splits = ", ".join(f"{name} {100 * share:g} %" for name, share in result["splits"].items())
    lines = [
        f"{result['added']} rows added to {result['file']} ({splits}), {result['changed']} labels changed, {result['same']} as before, "
        f"{result['without_label']} without a label, by {result['by']}",
        "the next cycle uses them",
    ]
    show(result, as_json, lines)
