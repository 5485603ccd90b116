"""``redistill forget``: removes a prompt from everything that this project keeps of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from redistill.cli.project import Json, application, show
from redistill.errors import DataError


def forget(
    name: Annotated[
        str,
        typer.Argument(help="A prompt's id, a row's own id, the X-Request-Id of a response, or the id of an imported row.", metavar="[ID]"),
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why it is removed. It is kept with the tombstone and in the history.")] = "",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Complete what an interrupted command left, and remove prompts with a tombstone that came back."),
    ] = False,
    outside_cache: Annotated[
        bool,
        typer.Option("--outside-cache", help="Also from a DVC cache outside of the project. Only if no other project uses that cache."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what holds it, and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a prompt from traffic, the completion store, caches, results and bundles, and say which versions it trained.

    A tombstone stays in forgotten.jsonl: a digest, the time and the reason, no text. Keep that file under version control. Intake drops the prompt when it
    comes again. Signed bundles are verified, changed and signed again, so lineage and the gate still pass. Your own data files are not changed; the command
    names those that still have the prompt. A text is removed where it is a whole value and no other prompt has it. The command does not run beside a cycle.

    If it was interrupted, or names a problem, a private file in .redistill/forgotten keeps what is left to do. The next `redistill forget` completes it, with
    any ID or with --resume; the exit code is 3 until nothing holds it. After `redistill restore` of an older archive, --resume removes the prompts that came back.

    Example: redistill forget 9f2c… --reason "the customer asked for it"
    """
    from redistill.params import load_params

    result: dict[str, Any] = application("tasks.operations.forgetting.forget").forget(
        load_params(), name, reason, resume=resume, outside_cache=outside_cache, dry_run=dry_run
    )
    verb = "holds it:" if dry_run else "removed from:"
    counts = [
        (len(result["traffic"]), "files of traffic"),
        (result["completions"], "completions in the store"),
        (len(result["files"]), "files of stages, results and logs"),
        (len(result["cache_objects"]), "objects in DVC's cache"),
        (len(result["bundles"]) - sum(p.startswith("bundle ") for p in result["problems"]), "signed bundles"),
    ]
    lines = [*(f"prompt {prompt}" for prompt in result["prompts"]), verb]
    lines += [f"  {count:>6}  {kind}" for count, kind in counts if count] or ["  nothing here"]
    if not result["prompts"]:
        lines = ["nothing was left to do: no removal was interrupted, and no prompt with a tombstone is here"]
    lines.append(f"trained: {', '.join(result['trained']) or 'no version'}")
    if result["unknown"]:
        lines.append(f"not known of version {', '.join(result['unknown'])}: the rows that trained it are not here any more")
    lines += [f"problem: {problem}" for problem in result["problems"]] + [f"note: {note}" for note in result["notes"]]
    show(result, as_json, lines)
    if result["problems"]:
        count = len(result["problems"])
        raise DataError(
            f"{count} place{'s' if count > 1 else ''} still ha{'ve' if count > 1 else 's'} it: {result['problems'][0]}; then run `redistill forget --resume`"
        )


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(forget)
