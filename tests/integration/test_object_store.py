"""A shared store in a bucket, on a real S3 server: the same operations, the lease, segments, and one line where it cannot be used."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from redistill.errors import DataError
from redistill.io.lease import Lease
from redistill.io.object_store import ObjectStore
from redistill.io.shared_store import SharedStore, open_store
from redistill.teacher.shared_completions import pull, push
from tests.servers import free_port
from tests.stores import check_objects
from tests.team.object_store import SECRET_KEY, object_store
from tests.team.object_store import ObjectStore as S3
from tests.team.object_store import missing as moto_missing
from tests.team.seaweedfs import missing as seaweedfs_missing
from tests.team.seaweedfs import seaweedfs
from tests.unit.teacher.test_shared_completions import NONE, fill, texts

KINDS = {"moto": (object_store, moto_missing()), "seaweedfs": (seaweedfs, seaweedfs_missing())}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.skipif(bool(why), reason=str(why))) for name, (_, why) in KINDS.items()]
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Amazon's manner of answering, and that of the store in compose.team.yaml."""
    start, _ = KINDS[request.param]
    with start(tmp_path_factory.mktemp("server")) as running:
        running.create("team")
        yield running


@pytest.fixture
def store(server: S3, monkeypatch: pytest.MonkeyPatch) -> SharedStore:
    for name, value in {**server.environment(), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://team/{uuid.uuid4().hex}")


def test_objects(store: SharedStore, tmp_path: Path) -> None:
    assert isinstance(store, ObjectStore)
    check_objects(store, tmp_path)


def test_the_lease(store: SharedStore) -> None:
    lease = Lease(store, "lease", 5.0)
    first = lease.wait(lambda seen: seen.ended)
    assert first is not None and lease.wait(lambda seen: seen.ended) is None
    first.check()
    first.release()
    second = lease.wait(lambda seen: seen.ended)
    assert second is not None and second.token == first.token + 1
    second.release()


def test_of_many_who_create_one_wins(store: SharedStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        for n in range(3):
            assert sum(pool.map(lambda who, name=f"claims/{n}": store.create(name, b"%d" % who), range(8))) == 1


def test_segments(store: SharedStore, tmp_path: Path) -> None:
    assert push(fill(tmp_path / "mine.sqlite", range(30)), store, NONE) == 30
    assert pull(tmp_path / "theirs.sqlite", store, NONE).rows == 30
    assert texts(tmp_path / "theirs.sqlite", range(30)) == [f"completion {n}" for n in range(30)]


def test_a_bucket_that_is_not_there_is_one_line(store: SharedStore) -> None:
    other = open_store("s3://nobody-made-this/redistill/tiny")
    with pytest.raises(DataError, match="cannot write a in the shared store s3://nobody-made-this/redistill/tiny") as error:
        other.write("a", b"x")
    assert "\n" not in str(error.value)


def test_a_server_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    away = S3(f"http://127.0.0.1:{free_port()}")
    for name, value in {**away.environment(), "NO_PROXY": "127.0.0.1", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match="cannot read lease in the shared store s3://team/other") as error:
        open_store("s3://team/other").names("lease")
    assert "\n" not in str(error.value) and SECRET_KEY not in str(error.value)
