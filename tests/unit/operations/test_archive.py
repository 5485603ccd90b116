"""The archive of a backup: what goes in comes out, and anything else is refused in one line."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from redistill.errors import ConfigError, DataError
from redistill.operations import restored_files
from redistill.operations.archive import Header, read_header, unpack, write_archive

HEADER = Header("id", "tiny", "2026-01-31T02:00:00+00:00", "0.1.0", None, 2, 300_007)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "params.yaml").write_text("data: {name: tiny}\n", encoding="utf-8")
    (source / "key").write_bytes(os.urandom(300_000))
    (source / "key").chmod(0o600)
    os.utime(source / "key", (1e9, 1e9))
    write_archive(tmp_path / "a.tar.gz", HEADER, [("params.yaml", source / "params.yaml"), (".redistill/keys/é key", source / "key")])
    return tmp_path / "a.tar.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "unpacked").mkdir()
    return tmp_path / "unpacked"


def test_files_come_back_as_they_were(archive: Path, folder: Path, tmp_path: Path) -> None:
    assert archive.stat().st_mode & 0o777 == 0o600, "it holds keys"
    assert read_header(archive) == unpack(archive, folder) == HEADER
    key = folder / ".redistill/keys/é key"
    assert key.read_bytes() == (tmp_path / "source/key").read_bytes()
    assert (key.stat().st_mode & 0o777, key.stat().st_mtime) == (0o600, 1e9)
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == ["params.yaml", "é key"]


@pytest.mark.parametrize("keep", [0, 1, 5, 60, 1000, 150_000, -9, -1])
def test_a_cut_archive_is_damaged(archive: Path, folder: Path, keep: int) -> None:
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.tar\.gz is damaged, or is not an archive of `redistill backup`") as raised:
        unpack(archive, folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_flipped_bit_is_damage(archive: Path, folder: Path, share: float) -> None:
    content = bytearray(archive.read_bytes())
    content[int(share * len(content))] ^= 4
    archive.write_bytes(bytes(content))
    with pytest.raises(DataError, match="is damaged"):
        unpack(archive, folder)


def rewritten(archive: Path, change: Callable[[tarfile.TarInfo, bytes], list[tuple[tarfile.TarInfo, bytes]]]) -> None:
    """The same archive with other members, as somebody with an editor makes it."""
    with tarfile.open(archive) as old:
        members = [(m, (old.extractfile(m) or io.BytesIO()).read()) for m in old]
    with tarfile.open(archive, "w:gz") as new:
        for member, content in members:
            for info, data in change(member, content):
                info.size = len(data)
                new.addfile(info, io.BytesIO(data))


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (named("../outside"), "leads out of the folder"),
        (named("/tmp/outside"), "leads out of the folder"),
        (named("a/../../outside"), "leads out of the folder"),
        (named("./params.yaml"), "leads out of the folder"),
        (named("link", tarfile.SYMTYPE, "/etc"), "not a regular file"),
        (named("link", tarfile.SYMTYPE, "../.."), "not a regular file"),
        (named("link", tarfile.LNKTYPE, "params.yaml"), "not a regular file"),
        (named("device", tarfile.CHRTYPE), "not a regular file"),
        (named("fifo", tarfile.FIFOTYPE), "not a regular file"),
        (named("folder", tarfile.DIRTYPE), "not a regular file"),
        (named("params.yaml"), "is in it twice"),
        (named("added"), "the content of added is not what its manifest says"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else None,
)
def test_what_a_backup_never_contains_is_refused(archive: Path, folder: Path, extra: tarfile.TarInfo, says: str) -> None:
    rewritten(archive, lambda info, data: [(info, data), (extra, b"")] if info.name == "params.yaml" else [(info, data)])
    with pytest.raises(DataError, match=says):
        unpack(archive, folder)
    assert not (folder.parent / "outside").exists() and not Path("/tmp/outside").exists()
    assert not any(p.is_symlink() for p in folder.rglob("*"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda i, d: [] if i.name == "params.yaml" else [(i, d)], "params.yaml is missing"),
        (lambda i, d: [(i, d + b"#" if i.name == "params.yaml" else d)], "the content of params.yaml is not what its manifest says"),
        (lambda i, d: [] if i.name == "manifest.json" else [(i, d)], "its manifest is missing"),
        (lambda i, d: [] if i.name == "redistill-backup.json" else [(i, d)], "does not begin with the header"),
        (lambda i, d: [(i, d.replace(b'"format": 1', b'"format": 2'))], "has format 2, but this version of redistill reads 1"),
        (lambda i, d: [(i, b"[]" if i.name == "manifest.json" else d)], "manifest.json has another content"),
        (lambda i, d: [(i, d.replace(b'"bytes": 300007', b'"bytes": 99999999999999999'))], "free some space"),
    ],
    ids=["missing", "changed", "no manifest", "no header", "later format", "odd manifest", "too large"],
)
def test_an_archive_that_is_not_whole_is_refused(archive: Path, folder: Path, change: Callable[..., object], says: str) -> None:
    rewritten(archive, change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=says):
        unpack(archive, folder)


def test_another_file_is_no_archive(tmp_path: Path) -> None:
    other = tmp_path / "other"
    for content in (b"", b"text", gzip.compress(b"text"), json.dumps({}).encode()):
        other.write_bytes(content)
        with pytest.raises(DataError, match="is damaged, or is not an archive"):
            read_header(other)
    with pytest.raises(DataError, match="no such file"):
        read_header(tmp_path / "nothing")


def test_a_file_that_cannot_be_read_leaves_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder cannot be read .*fix its permissions"):
        (tmp_path / "folder").mkdir()
        write_archive(tmp_path / "b.tar.gz", HEADER, [("folder", tmp_path / "folder")])
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from redistill.errors import DataError
    from redistill.operations.archive import unpack, write_archive
    from tests.unit.operations.test_archive import HEADER

    root = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # every write beyond 100 KB fails, as on a full disk
    for work in (lambda: unpack(root / "a.tar.gz", root / "unpacked"), lambda: write_archive(root / "b.tar.gz", HEADER, [("key", root / "source/key")])):
        try:
            work()
        except DataError as error:
            assert "could not write" in str(error) and "free some space" in str(error) and "\\n" not in str(error), error
        else:
            raise AssertionError("it was written")
    print("done")
"""


def test_a_full_disk_is_one_line_and_leaves_no_archive(archive: Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(archive.parent)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "done\n", done.stderr
    assert sorted(p.name for p in archive.parent.iterdir()) == ["a.tar.gz", "source", "unpacked"]


def restored(target: Path, archive: Path, *, force: bool = False) -> None:
    restored_files.check_target(target, archive, read_header(archive), force=force)
    with restored_files.staging(target) as staging:
        header = unpack(archive, restored_files.fresh(staging))
        restored_files.mark_verified(staging, header)
        restored_files.put_in_place(target, staging)


def test_restored_files_replace_the_state_and_leave_a_persons_files(archive: Path, folder: Path) -> None:
    restored(folder, archive)
    assert sorted(p.name for p in folder.iterdir()) == [".redistill", "params.yaml"]
    with pytest.raises(ConfigError, match="is not empty"):
        restored(folder, archive)
    (folder / "notes.md").write_text("mine", encoding="utf-8")
    (folder / ".redistill/store").mkdir()
    restored(folder, archive, force=True)
    assert sorted(p.name for p in folder.iterdir()) == [".redistill", "notes.md", "params.yaml"]
    assert [p.name for p in (folder / ".redistill").iterdir()] == ["keys"], "the state is that of the archive"
    (folder / "params.yaml").write_text("data: {name: other}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is project other, and the archive is of project tiny"):
        restored(folder, archive, force=True)


def test_a_damaged_archive_leaves_the_directory_as_it_was(archive: Path, folder: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="is damaged"):
        restored(folder, archive)
    assert list(folder.iterdir()) == []


def test_a_link_in_the_directory_that_leads_out_of_it_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "row").write_text("row", encoding="utf-8")
    (tmp_path / "params").write_text("data: {name: tiny}\n", encoding="utf-8")
    write_archive(tmp_path / "c.tar.gz", HEADER, [("data/rows.jsonl", tmp_path / "row"), ("params.yaml", tmp_path / "params")])
    (tmp_path / "elsewhere").mkdir()
    (folder / "data").symlink_to(tmp_path / "elsewhere")
    (folder / "params.yaml").write_text("data: {name: tiny}\n", encoding="utf-8")
    with pytest.raises(DataError, match="is a link that leads out of it"):
        restored(folder, tmp_path / "c.tar.gz", force=True)
    assert list((tmp_path / "elsewhere").iterdir()) == [] and (folder / "params.yaml").is_file()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.unit.operations.test_archive import restored

    left = int(sys.argv[3])
    def hook(event, args):
        global left
        if event == "os.rename":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    restored(Path(sys.argv[1]), Path(sys.argv[2]), force=True)
"""


@pytest.mark.parametrize("rename", range(1, 6))
def test_a_killed_restore_is_no_project_until_the_same_command_completes_it(archive: Path, folder: Path, rename: int) -> None:
    """The first rename is that of the mark. Of the others, each moves one thing, params.yaml first away and last back."""
    restored(folder, archive)
    (folder / ".redistill/keys/é key").write_text("another key", encoding="utf-8")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder), str(archive), str(rename)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    old = (folder / ".redistill/keys/é key").is_file() and (folder / ".redistill/keys/é key").read_text(errors="replace") == "another key"
    assert (folder / "params.yaml").is_file() == (rename <= 2), "the old project, or none"
    assert old == (rename <= 3)
    with restored_files.staging(folder) as staging:
        if restored_files.interrupted(folder) is None:
            restored_files.mark_verified(staging, unpack(archive, restored_files.fresh(staging)))
        restored_files.put_in_place(folder, staging)
    assert sorted(p.name for p in folder.iterdir()) == [".redistill", "params.yaml"]
    assert len((folder / ".redistill/keys/é key").read_bytes()) == 300_000


def test_one_restore_at_a_time(folder: Path) -> None:
    with restored_files.staging(folder), pytest.raises(ConfigError, match="another restore is working"), restored_files.staging(folder):
        pass
