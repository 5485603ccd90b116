"""The archive of a backup: a compressed tar file of regular files, with a digest of each of them.

Its first member is a header, its last a manifest with the sha256 of every other member, as it was written. Links, devices and names that lead out of
the folder are refused, so unpacking writes only below its folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import IO, Any

from redistill.errors import DataError
from redistill.io.atomic import replacing

FORMAT = 1
HEADER, MANIFEST = "redistill-backup.json", "manifest.json"
_CHUNK = 1 << 20
_LARGEST_JSON = 1 << 30


@dataclass(frozen=True, slots=True)
class Header:
    """What an archive is: of which project, when it was made (UTC), by which version of redistill, and how many files and bytes it holds.

    ``artifact_root`` is the address of MLflow's artifacts at the place where the project lay; None if MLflow is on a server.
    """

    id: str
    project: str
    created_at: str
    redistill: str
    artifact_root: str | None
    files: int
    bytes: int
    format: int = FORMAT


class _Hashed:
    """Reads a file; counts and hashes what was read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(size)
        self.digest.update(chunk)
        self.bytes += len(chunk)
        return chunk


def write_archive(target: Path, header: Header, files: Iterable[tuple[str, Path]]) -> None:
    """Write the archive under a temporary name that only its owner can read, then rename it. ``files``: name in the archive, and file on disk.

    Raises:
        DataError: a file cannot be read or changed meanwhile, or the disk is full; then there is no archive.
    """
    manifest: dict[str, dict[str, Any]] = {}
    with replacing(target) as temporary:
        handle = os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        # The lowest level: most bytes are weights, which do not get smaller.
        with handle, tarfile.open(fileobj=handle, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as tar:
            _add_json(tar, HEADER, asdict(header))
            for name, file in files:
                manifest[name] = _add_file(tar, name, file)
            _add_json(tar, MANIFEST, {"files": manifest})


def _add_json(tar: tarfile.TarFile, name: str, value: dict[str, Any]) -> None:
    content = json.dumps(value, indent=1, sort_keys=True).encode()
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    tar.addfile(info, io.BytesIO(content))


def _add_file(tar: tarfile.TarFile, name: str, file: Path) -> dict[str, Any]:
    try:
        source = open(file, "rb")  # noqa: SIM115 - closed below; only opening it is reported as unreadable
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); fix its permissions, then back up again") from error
    with source:
        stat = os.fstat(source.fileno())
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = stat.st_size, stat.st_mode & 0o755, stat.st_mtime
        reader = _Hashed(source)
        try:
            tar.addfile(info, reader)
        except OSError as error:
            if error.errno is None and reader.bytes < stat.st_size:  # tarfile's own error
                raise DataError(f"{file} became shorter while it was read; back up again when nothing writes to it") from None
            raise
        return {"sha256": reader.digest.hexdigest(), "bytes": stat.st_size}


def read_header(archive: Path) -> Header:
    """The header of an archive.

    Raises:
        DataError: no such archive, damaged, or written by a later version of redistill.
    """
    with _opened(archive) as tar:
        return _header(archive, next(iter(tar), None), tar)


def unpack(archive: Path, folder: Path) -> Header:
    """Unpack into an empty folder and verify every file.

    Raises:
        DataError: damaged, tampered with, or no space; what was unpacked is then of no use.
    """
    digests: dict[str, dict[str, Any]] = {}
    with _opened(archive) as tar:
        members = iter(tar)
        header = _header(archive, next(members, None), tar)
        free = shutil.disk_usage(folder).free
        if header.bytes > free:
            raise DataError(
                f"{archive} holds {header.bytes:,} bytes, but the disk of {folder.absolute()} has {free:,} free; free some space, then restore again"
            )
        manifest: dict[str, Any] | None = None
        for member in members:
            if manifest is not None:
                raise _damaged(archive, f"{member.name} comes after its manifest")
            if member.name == MANIFEST:
                manifest = dict(_json(archive, member, tar).get("files", {}))
                continue
            _check_member(archive, member, digests)
            digests[member.name] = _unpacked(archive, tar, member, folder)
        assert tar.fileobj is not None, "open"
        while _read(archive, tar.fileobj):
            pass  # to the end, where the checksum of the compression is
    _compare(archive, digests, manifest)
    return header


def _compare(archive: Path, digests: dict[str, dict[str, Any]], manifest: dict[str, Any] | None) -> None:
    if manifest is None:
        raise _damaged(archive, "its manifest is missing, so it was cut off")
    if missing := sorted(manifest.keys() - digests.keys()):
        raise _damaged(archive, f"{missing[0]} is missing")
    for name, found in digests.items():
        if manifest.get(name) != found:
            raise _damaged(archive, f"the content of {name} is not what its manifest says")


def _check_member(archive: Path, member: tarfile.TarInfo, known: dict[str, Any]) -> None:
    path = PurePosixPath(member.name)
    if not member.isreg():
        raise _damaged(archive, f"{member.name!r} is not a regular file; no backup contains links, devices or folders")
    if path.is_absolute() or ".." in path.parts or str(path) != member.name or "\\" in member.name or not path.parts:
        raise _damaged(archive, f"the name {member.name!r} leads out of the folder; no backup contains such a name")
    if member.name in known:
        raise _damaged(archive, f"{member.name} is in it twice")


def _unpacked(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> dict[str, Any]:
    target = folder / member.name
    source = tar.extractfile(member)
    assert source is not None, "only regular files get here"
    digest, size = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        written = os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise _unwritable(target, error) from error
    with written:
        while chunk := _read(archive, source):
            digest.update(chunk)
            size += len(chunk)
            try:
                written.write(chunk)
            except OSError as error:
                raise _unwritable(target, error) from error
    os.chmod(target, member.mode & 0o755 | 0o600)
    os.utime(target, (member.mtime, member.mtime))
    return {"sha256": digest.hexdigest(), "bytes": size}


def _read(archive: Path, source: Any) -> bytes:
    try:
        return bytes(source.read(_CHUNK))
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _damaged(archive, str(error) or type(error).__name__) from None


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        tar = tarfile.open(archive, "r:gz")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise DataError(f"{archive}: no such file in {Path.cwd()}; name an archive that `redistill backup` wrote") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _damaged(archive, str(error) or type(error).__name__) from None
    with tar:
        try:
            yield tar
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise _damaged(archive, str(error) or type(error).__name__) from None


def _header(archive: Path, member: tarfile.TarInfo | None, tar: tarfile.TarFile) -> Header:
    if member is None or member.name != HEADER:
        raise _damaged(archive, "it does not begin with the header of a backup")
    tree = _json(archive, member, tar)
    if tree.get("format") != FORMAT:
        raise DataError(
            f"{archive} has format {tree.get('format')}, but this version of redistill reads {FORMAT}; restore it with redistill {tree.get('redistill')}"
        )
    try:
        return Header(**{field.name: tree[field.name] for field in fields(Header)})
    except KeyError as error:
        raise _damaged(archive, f"its header has no {error}") from None


def _json(archive: Path, member: tarfile.TarInfo, tar: tarfile.TarFile) -> dict[str, Any]:
    source = tar.extractfile(member) if member.isreg() and member.size < _LARGEST_JSON else None
    if source is None:
        raise _damaged(archive, f"{member.name} is not a regular file")
    try:
        tree = json.loads(source.read())
    except (ValueError, tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _damaged(archive, f"{member.name} cannot be read ({error})") from None
    if not isinstance(tree, dict):
        raise _damaged(archive, f"{member.name} has another content")
    return tree


def _damaged(archive: Path, reason: str) -> DataError:
    return DataError(
        f"{archive} is damaged, or is not an archive of `redistill backup`: {reason}; nothing was restored; use another archive"
    )


def _unwritable(target: Path, error: OSError) -> DataError:
    return DataError(f"could not write {target}: {error.strerror or error}; free some space or fix its permissions, then restore again")
