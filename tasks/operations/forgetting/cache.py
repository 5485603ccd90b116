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
from tasks.operations.kept.dvc_objects import object_file, objects
from tasks.running.dvc_stage import cache_directory


@dataclass(frozen=True, slots=True)
class Held:
    """``files`` are objects that hold the prompt, by digest. ``digests`` also has the folders that list one of them."""

    files: dict[str, Path]
    digests: frozenset[str]


def held(traces: Traces) -> Held:
    """What of the cache holds these prompts; nothing if the cache lies outside of the project."""
    cache = cache_directory()
    present = {} if cache is None else dict(objects(cache))
    files = {digest: file for digest, file in present.items() if not digest.endswith(".dir") and tracing.holds(file, traces)}
    folders = {digest for digest, file in present.items() if digest.endswith(".dir") and _lists(file, files)}
    return Held(files, frozenset(files) | folders)


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
    cache = cache_directory()
    if cache is None:
        return 0
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
