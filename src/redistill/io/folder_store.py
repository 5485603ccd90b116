"""A shared store in a folder: one machine's disk, or a network file system with hard links."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from redistill.io.shared_store import Stored, refused


class FolderStore:
    """A folder that all machines see: one machine's disk, or a network file system with hard links."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.address = folder, folder.as_uri()

    def read(self, name: str) -> bytes | None:
        with self._explained("read", name):
            try:
                return (self._folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        with self._temporary(name) as file:
            _flushed(file, content)
            os.replace(file, self._folder / name)

    def create(self, name: str, content: bytes) -> bool:
        with self._temporary(name) as file:
            _flushed(file, content)
            try:
                os.link(file, self._folder / name)
            except FileExistsError:
                return False
            return True

    def names(self, folder: str) -> list[str]:
        with self._explained("read", folder):
            try:
                return sorted(entry.name for entry in os.scandir(self._folder / folder) if entry.is_file() and entry.name[0] != ".")
            except FileNotFoundError:
                return []

    def entries(self, folder: str) -> dict[str, Stored]:
        files = {name: self._folder / folder / name for name in self.names(folder)}
        with self._explained("read", folder):
            return {name: Stored((status := file.stat()).st_size, status.st_mtime) for name, file in files.items()}

    def remove(self, name: str) -> None:
        with self._explained("remove", name):
            (self._folder / name).unlink(missing_ok=True)

    def upload(self, file: Path, name: str) -> None:
        with self._temporary(name) as temporary:
            shutil.copyfile(file, temporary)
            _flushed(temporary)
            os.replace(temporary, self._folder / name)

    def download(self, name: str, file: Path) -> bool:
        with self._explained("read", name):
            try:
                shutil.copyfile(self._folder / name, file)
            except FileNotFoundError:
                if (self._folder / name).exists():
                    raise
                return False
            return True

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        """A file beside the object that is gone afterwards. No other machine has its name: process ids are the same on two machines."""
        target = self._folder / name
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        with self._explained("write", name):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                yield temporary
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise refused(self.address, verb, name, error.strerror or str(error)) from error


def _flushed(file: Path, content: bytes | None = None) -> None:
    """On the disk before anything refers to it."""
    with open(file, "wb" if content is not None else "rb+") as handle:
        if content is not None:
            handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
