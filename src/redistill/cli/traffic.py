"""``redistill traffic``: logged prompts of production."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from redistill.cli.project import Json, application, show

traffic_app = typer.Typer(no_args_is_help=True, help="Bring prompts of production into the project.")


class TraceFormat(StrEnum):
    """Formats of traces that can be read."""

    OPENAI = "openai"
    LANGFUSE = "langfuse"
    OTEL = "otel"


@traffic_app.command("import")
def import_traces(
    file: Annotated[Path, typer.Argument(help="The exported file: JSON Lines or JSON, also with .gz.", metavar="FILE")],
    trace_format: Annotated[
        TraceFormat,
        typer.Option(
            "--format",
            help="openai: requests to chat/completions, as a proxy logs them, batch inputs, stored completions. langfuse: an export of observations. "
            "otel: spans with OpenTelemetry's gen_ai attributes, as OTLP JSON.",
        ),
    ],
    consent: Annotated[
        str, typer.Option("--consent", help="What the people who wrote the requests agreed to, in a few words. Stored with each row.")
    ],
    licence: Annotated[str, typer.Option("--licence", help="The licence of the texts, as its review in governance.licenses names it.")],
    into: Annotated[Path, typer.Option("--into", help="The folder that gets the rows.")] = Path(".redistill/imports"),
    slice_by: Annotated[
        str | None,
        typer.Option(
            "--slice-by",
            help="The key of a record, of its metadata or of a span's attributes that is its slice, such as channel.",
            metavar="KEY",
        ),
    ] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Import the rest of a file with broken records.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be imported, and write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Import the prompts of traces that another tool has. Completions are not imported, because only the teacher's may train a student.

    Personal data and secrets are replaced before anything is written. The same file again adds nothing. Then name the folder in data.source.

    Example: redistill traffic import traces.jsonl --format openai --consent "terms of use, 2026" --licence internal
    """
    from redistill.params import load_params

    importing = application("tasks.operations.import_traces")
    options = importing.ImportOptions(into, trace_format.value, slice_by, consent, licence, skip_broken, dry_run)
    result = importing.import_traces(load_params(), file, options, lambda line: print(line, file=sys.stderr, flush=True))
    done = "would be imported" if dry_run else "imported"
    lines = [f"{result['rows']:,} rows {done} into {result['into']}; {result['already_there']:,} were there already"]
    lines += [f"{result['replaced']:,} of them had personal data or a secret, which was replaced"] if result["replaced"] else []
    lines += [f"{count:,} left out: {reason}" for reason, count in result["left_out"].items()]
    lines += [f"{result['broken']:,} broken records left out"] if result["broken"] else []
    show(result, as_json, [*lines, *(f"next: {step}" for step in result["next"])])
