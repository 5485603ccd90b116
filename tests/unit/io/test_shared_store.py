"""A shared store as a folder: whole objects, one winner among those who create, and one line where it cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from redistill.errors import ConfigError, DataError
from redistill.io.shared_store import ADDRESS, SharedStore, open_store, shared_store
from tests.stores import check_objects

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def store(tmp_path: Path) -> SharedStore:
    return open_store((tmp_path / "a shared folder").as_uri())


def test_objects(store: SharedStore, tmp_path: Path) -> None:
    check_objects(store, tmp_path)


CREATOR = """
    import sys
    from redistill.io.shared_store import open_store

    store = open_store(sys.argv[1])
    print(sum(store.create(f"claims/{n}", sys.argv[2].encode() * 1000) for n in range(200)))
"""


def test_of_many_who_create_one_wins(store: SharedStore) -> None:
    command = [sys.executable, "-c", textwrap.dedent(CREATOR), store.address]
    processes = [subprocess.Popen([*command, name], cwd=ROOT, stdout=subprocess.PIPE, text=True) for name in "abc"]
    won = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(won) == 200
    contents = [store.read(f"claims/{n}") or b"" for n in range(200)]
    assert [sum(c == name.encode() * 1000 for c in contents) for name in "abc"] == won, "what a winner wrote is there whole"


@pytest.mark.parametrize("address", ["/srv/shared", "shared", "file://host/folder", "s3://", "file:relative"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a store; set it to a folder") as error:
        open_store(address)
    assert address in str(error.value)


def test_credentials_do_not_belong_into_the_address() -> None:
    with pytest.raises(ConfigError, match="credentials") as error:
        open_store("s3://me:secret-word@bucket/folder")
    assert "secret-word" not in str(error.value)


def test_an_unknown_scheme() -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        open_store("nonsense://bucket/folder")


def test_the_environment_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    assert shared_store("triage") is None
    monkeypatch.setenv(ADDRESS, f"{tmp_path.as_uri()}/")
    named = shared_store("triage")
    assert named is not None
    named.write("x", b"y")
    assert (tmp_path / "triage" / "x").read_bytes() == b"y"


@pytest.mark.parametrize("address", ["somewhere", "/srv/shared", "file://host/folder", "file:relative"])
def test_an_address_in_the_environment_that_is_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, address)
    with pytest.raises(ConfigError, match=f"{ADDRESS}={address} is no address of a store"):
        shared_store("triage")


def test_a_folder_that_is_not_there_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where it is not mounted, or has a typing error, a lease in it would be free although another worker works."""
    monkeypatch.setenv(ADDRESS, (tmp_path / "not mounted").as_uri())
    with pytest.raises(DataError, match="there is no folder .*/not mounted here; mount it, or make it once"):
        shared_store("triage")
    assert not list(tmp_path.iterdir())


def test_a_store_that_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    store = open_store((tmp_path / "file").as_uri())
    for action in (lambda: store.write("a", b""), lambda: store.read("a"), lambda: store.create("a", b"")):
        with pytest.raises(DataError, match="in the shared store file://.*check the address in REDISTILL_SHARED_STORE") as error:
            action()
        assert "\n" not in str(error.value)


FULL = """
    import resource, sys
    from redistill.errors import DataError
    from redistill.io.shared_store import open_store

    store = open_store(sys.argv[1])
    store.write("a", b"before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # every write beyond 1000 bytes fails, as on a full disk
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for action in (lambda: store.write("a", b"x" * 5000), lambda: store.create("b", b"x" * 5000)):
        try:
            action()
        except DataError as error:
            assert "has space" in str(error), error
        else:
            raise SystemExit("the write went through")
    assert store.read("a") == b"before" and store.names("") == ["a"]
"""


def test_a_full_volume_leaves_what_was_there(store: SharedStore, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), store.address], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [name for name in os.listdir(tmp_path / "a shared folder")] == ["a"], "no half-written file stays"
