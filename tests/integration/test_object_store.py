"""A shared store in a bucket, on a real S3 server: the same operations, the lease, segments, and one line where it cannot be used."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redistill.errors import DataError
from redistill.io.lease import Lease
from redistill.io.shared_store import ObjectStore, SharedStore, open_store
from redistill.teacher.shared_completions import pull, push
from tests.servers import free_port, stop, until
from tests.unit.teacher.test_shared_completions import NONE, fill, texts

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("moto") is None or importlib.util.find_spec("s3fs") is None,
    reason="needs redistill[team], and moto as the server",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        # Without a proxy, and without a look at the real service.
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )  # fmt: skip
    try:
        until(f"http://127.0.0.1:{port}/moto-api/", timeout_s=120, process=process)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch) -> SharedStore:
    environment = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    import boto3

    boto3.client("s3").create_bucket(Bucket="team")
    return open_store("s3://team/redistill/tiny")


def test_objects(store: SharedStore, tmp_path: Path) -> None:
    assert isinstance(store, ObjectStore)
    assert store.read("a/one") is None and store.names("a") == []
    store.write("a/one", b"1")
    store.write("a/one", b"2")
    store.write("a/b/deeper", b"x")
    assert store.read("a/one") == b"2" and store.names("a") == ["one"] and store.names("a/b") == ["deeper"]
    assert store.create("a/new", b"mine") and not store.create("a/new", b"theirs") and store.read("a/new") == b"mine"
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    store.upload(tmp_path / "large", "a/large")
    assert store.download("a/large", tmp_path / "copy") and (tmp_path / "copy").read_bytes() == b"x" * 100_000
    assert not store.download("a/missing", tmp_path / "none") and not (tmp_path / "none").exists()
    store.remove("a/one")
    store.remove("a/one")
    assert store.names("a") == ["large", "new"]


def test_the_lease(store: SharedStore) -> None:
    lease = Lease(store, "lease", 5.0)
    first = lease.wait(lambda seen: seen.ended)
    assert first is not None and lease.wait(lambda seen: seen.ended) is None
    first.check()
    first.release()
    second = lease.wait(lambda seen: seen.ended)
    assert second is not None and second.token == first.token + 1
    second.release()


def test_segments(store: SharedStore, tmp_path: Path) -> None:
    assert push(fill(tmp_path / "mine.sqlite", range(30)), store, NONE) == 30
    assert pull(tmp_path / "theirs.sqlite", store, NONE).rows == 30
    assert texts(tmp_path / "theirs.sqlite", range(30)) == [f"completion {n}" for n in range(30)]


def test_a_bucket_that_is_not_there_is_one_line(store: SharedStore) -> None:
    other = open_store("s3://nobody-made-this/redistill/tiny")
    with pytest.raises(DataError, match="cannot write a in the shared store s3://nobody-made-this/redistill/tiny") as error:
        other.write("a", b"x")
    assert "\n" not in str(error.value)


def test_a_server_that_is_away_is_one_line(store: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(DataError, match="cannot read lease in the shared store s3://team/other") as error:
        open_store("s3://team/other").names("lease")
    assert "\n" not in str(error.value) and "secret" not in str(error.value)
