"""What several machines share: named objects in a folder that all of them see, or in an object store.

Five operations are enough for everything that redistill shares. Only ``create`` decides between two writers: one of them gets the name. Both kinds of
store can do that, a folder by a hard link and S3 by ``If-None-Match``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from redistill.errors import ConfigError, DataError

ADDRESS = "REDISTILL_SHARED_STORE"


@dataclass(frozen=True, slots=True)
class Stored:
    """The size of an object, and the Unix time of its last change by the clock of the store; infinite where the store does not say it."""

    bytes: int
    changed_s: float


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

    def entries(self, folder: str) -> dict[str, Stored]:
        """The same names, each with what the store says of its object."""

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
        DataError: it is a folder that is not here. It is never made: a folder that was not mounted, or a typing error, would be a second store.
    """
    if not (address := named_address()):
        return None
    folder = _folder(address)
    if folder is not None and not folder.is_dir():
        raise DataError(f"{ADDRESS}={address}: there is no folder {folder} here; mount it, or make it once for a new store, then run again")
    return open_store(f"{address}/{project}")


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
    from redistill.io.folder_store import FolderStore
    from redistill.io.object_store import ObjectStore

    folder = _folder(address)
    return ObjectStore(address) if folder is None else FolderStore(folder)


def _folder(address: str) -> Path | None:
    """The folder of an address; None for a bucket."""
    parts = urlsplit(address)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return Path(unquote(parts.path))
    if not parts.scheme or not parts.netloc or parts.scheme == "file":
        raise ConfigError(
            f"{ADDRESS}={address} is no address of a store; set it to a folder that all workers see, such as file:///srv/redistill, or to a bucket, such as s3://bucket/redistill"
        )
    if parts.password is not None or parts.username is not None:
        raise ConfigError(f"{ADDRESS} has credentials in its address; set them in the environment, for S3 as AWS_ACCESS_KEY_ID and others")
    return None


def refused(address: str, verb: str, name: str, why: Any) -> DataError:
    """What a store that fails means, in one line."""
    reason = " ".join(str(why).split())[:200] or "no reason given"
    return DataError(
        f"cannot {verb} {name} in the shared store {address}: {reason}; check the address in {ADDRESS}, that the store runs and has space, "
        "and the credentials, then run again"
    )
