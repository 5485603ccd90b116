"""Removes from DVC's cache every object that holds a prompt, and the entries of the run cache that lead to one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from redistill.errors import DataError
from redistill.operations import traces as tracing
from redistill.operations.traces import Traces
from tasks.operations.forgetting.files import note_ids, note_list
from tasks.running.dvc_objects import object_file, objects
from tasks.running.dvc_stage import cache_folder

_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Held:
    """``files`` are objects that hold the prompt, by digest. ``digests`` also has the folders that list one of them. ``unread`` are too large to be
    read. ``outside``: the cache lies outside of the project, where other projects may use it too.
    """

    folder: Path
    files: dict[str, Path]
    digests: frozenset[str]
    unread: tuple[Path, ...]
    outside: bool

    @property
    def problem(self) -> str:
        """Why the objects stay, where other projects may use them."""
        shown = ", ".join(file.as_posix() for file in list(self.files.values())[:_MOST_SHOWN])
        more = f" and {len(self.files) - _MOST_SHOWN} more" if len(self.files) > _MOST_SHOWN else ""
        return (
            f"DVC's cache {self.folder} lies outside of the project and other projects may use it, so it still holds the prompt: {shown}{more}. If only this "
            "project uses it, run `redistill forget --resume --outside-cache`; if not, agree with the others, delete these files, and run "
            "`redistill forget --resume`"
        )


def held(traces: Traces) -> Held:
    """What of the cache holds these prompts, wherever it lies."""
    cache = cache_folder()
    present = dict(objects(cache))
    files = {digest: file for digest, file in present.items() if not digest.endswith(".dir") and tracing.holds(file, traces)}
    folders = {digest for digest, file in present.items() if digest.endswith(".dir") and _lists(file, files)}
    unread = tuple(file for digest, file in present.items() if not digest.endswith(".dir") and tracing.too_large(file))
    outside = not cache.resolve().is_relative_to(Path.cwd().resolve())
    return Held(cache, files, frozenset(files) | folders, unread, outside)


def _lists(folder: Path, files: Iterable[str]) -> bool:
    try:
        return any(entry["md5"] in files for entry in json.loads(folder.read_bytes()))
    except (ValueError, KeyError, TypeError, OSError):
        return False


def remove(held: Held) -> int:
    """Remove the objects, and what of the run cache leads to them; returns how many objects.

    Raises:
        DataError: one cannot be removed.
    """
    cache = held.folder
    try:
        for entry in sorted((cache / "runs").glob("??/*/*")):
            if _leads_to(entry, held.digests):
                entry.unlink()
        for digest, file in held.files.items():
            note_ids(digest, file)
            file.unlink()
        # A folder whose list has a missing file is no whole folder any more; DVC makes it again.
        for digest in held.digests - held.files.keys():
            with suppress(FileNotFoundError):
                folder = object_file(cache, digest)
                note_list(digest, folder)
                folder.unlink()
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be removed ({error.strerror or error}); fix its permissions, then run the command again"
        ) from None
    return len(held.files)


def _leads_to(entry: Path, digests: frozenset[str]) -> bool:
    try:
        return any(out.get("md5") in digests for out in yaml.safe_load(entry.read_text(encoding="utf-8"))["outs"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
