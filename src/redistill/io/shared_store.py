"""What several machines share: named objects in a folder that all of them see, or in an object store.

Five operations are enough for everything that redistill shares. Only ``create`` decides between two writers: one of them gets the name. Both kinds of
store can do that, a folder by a hard link and S3 by ``If-None-Match``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from redistill.errors import ConfigError, DataError

ADDRESS = "REDISTILL_SHARED_STORE"
_T = TypeVar("_T")


class SharedStore(Protocol):
    """Objects with names such as ``segments/ab12``. An object is there whole or not at all."""

    address: str

    def read(self, name: str) -> bytes | None:
        """The content; None where there is no such object."""

    def write(self, name: str, content: bytes) -> None:
        """Write an object, also over an older one."""

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that is not there yet; False if it is. Of two writers, one gets True."""

    def names(self, folder: str) -> list[str]:
        """The names of the objects in a folder, without the folder, sorted."""

    def remove(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""

    def upload(self, file: Path, name: str) -> None:
        """Write a file of any size."""

    def download(self, name: str, file: Path) -> bool:
        """Read an object of any size into a file; False where there is none."""


def shared_store(project: str) -> SharedStore | None:
    """The store that the environment names, in it the folder of one project; None where none is named.

    Raises:
        ConfigError: the address is none that this version can use.
    """
    return open_store(f"{address}/{project}") if (address := named_address()) else None


def named_address() -> str:
    """The address in the environment; empty where there is none."""
    return os.environ.get(ADDRESS, "").strip().rstrip("/")


def project_store() -> SharedStore | None:
    """The store of the project in this folder; None where the environment names none. For what must work although ``params.yaml`` has a mistake elsewhere.

    Raises:
        ConfigError: the project has no name.
    """
    if not named_address():
        return None
    import yaml

    try:
        name = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["data"]["name"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{ADDRESS} is set, but params.yaml here has no data.name ({type(error).__name__}), which is the project's folder in the store; correct params.yaml"
        ) from None
    return shared_store(str(name))


def open_store(address: str) -> SharedStore:
    """A store by its address: ``file:///folder``, or what fsspec reads, such as ``s3://bucket/folder``.

    Raises:
        ConfigError: the address has no scheme, credentials in it, or a scheme of which no package is installed.
    """
    parts = urlsplit(address)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return FolderStore(Path(unquote(parts.path)))
    if not parts.scheme or not parts.netloc or parts.scheme == "file":
        raise ConfigError(
            f"{ADDRESS}={address} is no address of a store; set it to a folder that all workers see, such as file:///srv/redistill, or to a bucket, such as s3://bucket/redistill"
        )
    if parts.password is not None or parts.username is not None:
        raise ConfigError(f"{ADDRESS} has credentials in its address; set them in the environment, for S3 as AWS_ACCESS_KEY_ID and others")
    return ObjectStore(address)


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
            raise _refused(self.address, verb, name, error.strerror or str(error)) from error


def _flushed(file: Path, content: bytes | None = None) -> None:
    """On the disk before anything refers to it."""
    with open(file, "wb" if content is not None else "rb+") as handle:
        if content is not None:
            handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


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
            except FileExistsError:
                return False
            return True

        return bool(self._tried("write", name, put, False))

    def names(self, folder: str) -> list[str]:
        def listed(path: str) -> list[str]:
            entries = self._fs.ls(path, detail=True, refresh=True)
            return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file" and entry["name"] != path)

        return self._tried("read", folder, listed, list[str]()) or []

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
                    raise _refused(self.address, verb, name, str(error)) from error
                return absent
            except PermissionError as error:
                raise _refused(self.address, verb, name, str(error)) from error
            # Every library has errors of its own for a server that is away.
            except Exception as error:
                if wait_s is None:
                    raise _refused(self.address, verb, name, f"{type(error).__name__}: {error}") from error
                time.sleep(wait_s)
        raise AssertionError("unreachable")


def _refused(address: str, verb: str, name: str, why: Any) -> DataError:
    reason = " ".join(str(why).split())[:200] or "no reason given"
    return DataError(
        f"cannot {verb} {name} in the shared store {address}: {reason}; check the address in {ADDRESS}, that the store runs and has space, "
        "and the credentials, then run again"
    )
