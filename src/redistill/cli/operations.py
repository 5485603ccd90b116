"""Commands for those who run a project every night: free disk, back up, restore."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redistill.cli.bundled import bundled_folder
from redistill.cli.project import Json, application, show

if TYPE_CHECKING:
    from redistill.operations.retention import Kept, Sweep


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (gc, backup, restore):
        app.command()(command)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be removed, and change nothing.")] = False,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="Also free the store that clones share (REDISTILL_SHARED_STORE), while none of them runs a cycle."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Free disk: old versions with their weights, old runs and flow runs, unused completions, work folders and cached data.

    The section retention of params.yaml sets how long things are kept. Never removed: versions with an alias (champion, previous, reference,
    challenger) and everything that they need for lineage, reproduce and rollback; the history and the looks; the present workspace.
    gc does not run beside a cycle. With --shared, no other clone may run a cycle at the same time. If it was interrupted, run it again.

    Example: redistill gc --dry-run
    """
    from redistill.params import load_params

    sweeps: list[Sweep] = application("tasks.operations.gc.collect").collect_garbage(load_params(), shared=shared, dry_run=dry_run)
    total = sum(sweep.freed_bytes for sweep in sweeps)
    removed = [{"kind": s.kind, "count": s.removed, "bytes": s.freed_bytes} for s in sweeps if s.removed]
    notes = [sweep.note for sweep in sweeps if sweep.note]
    result = {
        "dry_run": dry_run,
        "removed": removed,
        "bytes": total,
        "kept": [dataclasses.asdict(kept) for sweep in sweeps for kept in sweep.kept],
        "notes": notes,
    }
    lines = ["would be removed:" if dry_run else "removed:"]
    lines += _table([(str(r["count"]), str(r["kind"]), size(int(str(r["bytes"])))) for r in removed]) or ["  nothing"]
    lines += ["kept:", *_table([(str(k.count), k.kind, _reason(k)) for sweep in sweeps for k in sweep.kept])]
    lines += [f"note: {note}" for note in notes]
    lines.append(f"{size(total)} {'would be' if dry_run else 'were'} freed" + ("; nothing has changed" if dry_run else ""))
    show(result, as_json, lines)


def _reason(kept: Kept) -> str:
    return kept.reason + (f" ({', '.join(kept.names)})" if kept.names else "")


def _table(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """Number, kind and the rest, in columns."""
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else [0, 0]
    return [f"  {number:>{widths[0]}}  {kind:<{widths[1]}}  {rest}" for number, kind, rest in rows]


def size(count: int) -> str:
    """Bytes in the largest unit that leaves at least one of it."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def backup(
    target: Annotated[
        Path,
        typer.Argument(
            help="The archive to write, or a directory for NAME-DATE.tar.gz. An existing file is not overwritten.", metavar="FILE_OR_DIR"
        ),
    ],
    as_json: Json = False,
) -> None:
    """Write everything that cannot be made again, or only at a high price, into one archive.

    It holds params.yaml, dvc.yaml, the locks, the data and local models that params.yaml names, the route, the completion store, the MLflow store with the
    history and all versions, the data in DVC's cache that the workspace and kept versions need, and the private signing key. So keep it secret: only you can read the file.
    backup does not run beside a cycle.

    Example: redistill backup /backups
    """
    from redistill.params import load_params

    result = application("tasks.operations.backup.back_up").back_up(load_params(), target)
    lines = [
        f"{result['archive']}: {result['files']} files, {size(result['bytes'])} ({size(result['archive_bytes'])} compressed)",
        *(["it contains the private signing key: only you can read it (mode 0600); keep it so"] if result["has_keys"] else []),
        *(f"note: {note}" for note in result["notes"]),
    ]
    show(result, as_json, lines)


def restore(
    archive: Annotated[Path, typer.Argument(help="An archive that `redistill backup` wrote.", metavar="FILE")],
    force: Annotated[bool, typer.Option("--force", help="Replace the state of the same project that is in this directory.")] = False,
    as_json: Json = False,
) -> None:
    """Restore a project from an archive into this directory, which must be empty (or see --force).

    All digests are checked before the first file is put in its place. If it was interrupted, run the same command again.

    Example: redistill -C /srv/triage restore /backups/triage-2026-01-31.tar.gz
    """
    # The application of this package: the directory is no project yet, or has code that is about to be replaced.
    sys.path.insert(0, str(bundled_folder()))
    restoring: Any = importlib.import_module("tasks.operations.backup.restore")
    result = restoring.restore(archive, force=force)
    lines = [
        f"{result['project']}: {result['files']} files of {result['created_at']}, {size(result['bytes'])}",
        *(f"note: {note}" for note in result["notes"]),
        "next: `redistill status`, then `redistill run`",
    ]
    show(result, as_json, lines)
