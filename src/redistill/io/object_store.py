"""A shared store in a bucket."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from redistill.errors import ConfigError
from redistill.io.shared_store import ADDRESS, Stored, refused

_T = TypeVar("_T")


class ObjectStore:
    """A bucket, through fsspec. What fails is tried again for a few seconds, because a store of the net may hiccup."""

    _WAITS_S = (0.5, 1.0, 2.0, 4.0)

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address
        try:
            self._fs, self._root = fsspec.core.url_to_fs(address, use_listings_cache=False, skip_instance_cache=True)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{ADDRESS}={address} cannot be used ({str(error).splitlines()[0][:200]}); for s3:// install redistill[team]"
            ) from None

    def read(self, name: str) -> bytes | None:
        return self._tried("read", name, lambda path: bytes(self._fs.cat_file(path)), None)

    def write(self, name: str, content: bytes) -> None:
        self._tried("write", name, lambda path: self._fs.pipe_file(path, content), None)

    def create(self, name: str, content: bytes) -> bool:
        def put(path: str) -> bool:
            try:
                self._fs.pipe_file(path, content, mode="create")
            except Exception as error:
                if not _is_there(error):
                    raise
                return False
            return True

        return bool(self._tried("write", name, put, False))

    def names(self, folder: str) -> list[str]:
        return sorted(self.entries(folder))

    def entries(self, folder: str) -> dict[str, Stored]:
        def listed(path: str) -> dict[str, Stored]:
            entries = [entry for entry in self._fs.ls(path, detail=True, refresh=True) if entry["type"] == "file"]
            # A name that ends with a slash is the mark of a folder, which some programs make.
            named = ((entry["name"].rpartition("/")[2], entry) for entry in entries if entry["name"].rstrip("/") != path.rstrip("/"))
            return {name: Stored(int(entry["size"] or 0), _changed_s(entry)) for name, entry in named if name}

        return self._tried("read", folder, listed, dict[str, Stored]()) or {}

    def remove(self, name: str) -> None:
        self._tried("remove", name, lambda path: self._fs.rm_file(path), None)

    def upload(self, file: Path, name: str) -> None:
        self._tried("write", name, lambda path: self._fs.put_file(str(file), path), None)

    def download(self, name: str, file: Path) -> bool:
        def get(path: str) -> bool:
            self._fs.get_file(path, str(file))
            return True

        return bool(self._tried("read", name, get, False))

    def _tried(self, verb: str, name: str, action: Callable[[str], _T], absent: _T | None) -> _T | None:
        path = f"{self._root}/{name}"
        for wait_s in (*self._WAITS_S, None):
            try:
                return action(path)
            except FileNotFoundError as error:
                # To write, the bucket itself must be there.
                if verb == "write":
                    raise refused(self.address, verb, name, str(error)) from error
                return absent
            except PermissionError as error:
                raise refused(self.address, verb, name, str(error)) from error
            # Every library has errors of its own for a server that is away.
            except Exception as error:
                if wait_s is None:
                    raise refused(self.address, verb, name, f"{type(error).__name__}: {error}") from error
                time.sleep(wait_s)
        raise AssertionError("unreachable")


def _changed_s(entry: dict[str, Any]) -> float:
    """The time of the last change. Each kind of store has a name of its own for it (fsspec, ``AbstractFileSystem.modified``)."""
    value = next((entry[key] for key in ("LastModified", "mtime", "updated", "last_modified") if entry.get(key)), None)
    return value.timestamp() if isinstance(value, datetime) else float(value) if isinstance(value, int | float) else math.inf


def _is_there(error: Exception) -> bool:
    """Whether a store refused to create an object because it exists: HTTP status 412. Only Amazon's also says which condition failed, and only then s3fs raises FileExistsError."""
    response = getattr(error.__cause__, "response", None) or {}
    return (
        isinstance(error, FileExistsError) or response.get("ResponseMetadata", {}).get("HTTPStatusCode") == HTTPStatus.PRECONDITION_FAILED
    )
