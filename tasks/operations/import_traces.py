"""``redistill traffic import``: traces that people already have, as shards that ``data.source`` can name."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.data.forgotten import forgotten_digests
from redistill.data.traffic.shards import logged_ids, write_shards
from redistill.data.traffic.types import LoggedRequest
from redistill.errors import ConfigError, DataError
from redistill.params import Params
from redistill.serving.traffic.lock import traffic_lock
from redistill.validation.licences import is_filled_in
from redistill.validation.traffic.imports import ImportSettings, Tally, imported
from tasks.locking.licence_check import licences_named
from tasks.operations.traffic_folders import note_folder
from tasks.paths import FORGOTTEN, TRAFFIC

_ROWS_EACH = 10_000
_UNFINISHED = ".importing-"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """``into`` is the folder of shards. ``skip_broken``: import the rest of a file with broken records. ``dry_run``: write nothing."""

    into: Path
    format: str
    slice_by: str | None
    consent: str
    licence: str
    skip_broken: bool
    dry_run: bool


def import_traces(params: Params, file: Path, options: ImportOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """Read a file and add its new rows to a folder: all of them, or none. ``say`` gets a line for each broken record.

    Raises:
        ConfigError: consent or licence is not filled in, or the folder is the router's.
        DataError: the file cannot be read, or has broken records and ``skip_broken`` is off.
    """
    _check(options)
    tally, files = Tally(), list[str]()
    if options.dry_run:
        deque(_rows(params, file, options, tally), maxlen=0)
        _report_broken(tally, options, say)
    else:
        note_folder(options.into)
        # Under the lock: what `redistill forget` removes now must not be written a moment later.
        with traffic_lock(options.into):
            _remove_unfinished(options.into)
            with tempfile.TemporaryDirectory(prefix=f"{_UNFINISHED}{os.getpid()}-", dir=options.into) as scratch:
                written = list(write_shards(Path(scratch), _rows(params, file, options, tally), _ROWS_EACH))
                _report_broken(tally, options, say)
                files = [str(shard.replace(options.into / shard.name)) for shard in written]
    return {
        "file": str(file),
        "into": str(options.into),
        "rows": tally.rows,
        "already_there": tally.already,
        "replaced": tally.replaced,
        "left_out": dict(sorted(tally.left_out.items())),
        "broken": tally.broken_rows,
        "broken_lines": tally.broken,
        "shards": files,
        "dry_run": options.dry_run,
        "next": _next(params, options),
    }


def _rows(params: Params, file: Path, options: ImportOptions, tally: Tally) -> Iterator[LoggedRequest]:
    settings = ImportSettings(
        options.format, options.consent, options.licence, options.slice_by, params.intake.max_chars, forgotten_digests(FORGOTTEN)
    )
    return imported(file, params.data, settings, logged_ids(options.into), tally)


def _check(options: ImportOptions) -> None:
    for name, value, meaning in (
        ("consent", options.consent, "what the people who wrote these requests agreed to"),
        ("licence", options.licence, "the licence of these texts, as its review in governance.licenses names it"),
    ):
        if not is_filled_in(value):
            raise ConfigError(f"--{name} is {value!r}; say {meaning}")
    if options.into.resolve() == TRAFFIC.resolve():
        raise ConfigError(f"--into {options.into} is the folder of the router, which removes old rows; name another folder")
    if options.into.exists() and not options.into.is_dir():
        raise ConfigError(f"--into {options.into} is a file; name a folder")


def _remove_unfinished(folder: Path) -> None:
    """What an import left that was killed: nothing reads it."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        pid = left.name.removeprefix(_UNFINISHED).partition("-")[0]
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _report_broken(tally: Tally, options: ImportOptions, say: Callable[[str], None]) -> None:
    for line in tally.broken:
        say(f"broken: {line}")
    if more := tally.broken_rows - len(tally.broken):
        say(f"broken: {more:,} more")
    if tally.broken_rows and not options.skip_broken:
        raise DataError(
            f"{tally.broken_rows:,} broken record{'s' * (tally.broken_rows > 1)}, so nothing is imported; export the file again, or import the rest with --skip-broken"
        )


def _next(params: Params, options: ImportOptions) -> list[str]:
    """What is missing in params.yaml before a cycle uses the rows."""
    source = next((source for source in params.data.traffic if Path(source.traffic) == options.into), None)
    name = f"traffic:{options.into}" if source is None else source.path
    steps = []
    if source is None:
        steps.append(f"add to data.source: {{traffic: {options.into}, splits: {{pool: 0.9, calibration: 0.1}}}}")
    if options.licence not in licences_named(params.governance, params.teacher, params.data, name):
        steps.append(f"add to governance.licenses a review with covers: data, licence: {options.licence} and {name} among its sources")
    return steps or ["run `redistill lock`, which takes a snapshot, or a cycle"]
