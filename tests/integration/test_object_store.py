"""A shared store in a bucket, on a real S3 server: the same operations, the lease, segments, and one line where it cannot be used."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread

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


@pytest.mark.long
@pytest.mark.skipif(bool(seaweedfs_missing()), reason=str(seaweedfs_missing()))
def test_a_store_that_is_killed_has_every_object_that_it_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``compose.team.yaml`` gives SeaweedFS a minute to stop, and then it is killed."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    content = {f"segments/{n}": hashlib.sha256(b"%d" % n).digest() * 2 ** (n % 17) for n in range(200)}
    confirmed = set[str]()

    def upload(names: list[str], store: SharedStore) -> None:
        with suppress(DataError):
            for name in names:
                store.write(name, content[name])
                confirmed.add(name)

    def opened(server: S3) -> SharedStore:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        return open_store("s3://team/killed")

    with seaweedfs(tmp_path) as server:
        server.create("team")
        store = opened(server)
        # It is killed at the end of the block, while uploads run.
        uploads = [Thread(target=upload, args=([*content][part::4], store)) for part in range(4)]
        for thread in uploads:
            thread.start()
        deadline = time.monotonic() + 120.0
        while len(confirmed) < 50 and time.monotonic() < deadline:
            time.sleep(0.01)
    for thread in uploads:
        thread.join(300.0)
        assert not thread.is_alive()
    assert 50 <= len(confirmed) < len(content), "it was killed while uploads ran"
    with seaweedfs(tmp_path) as server:
        store = opened(server)
        assert [name for name in sorted(confirmed) if store.read(name) != content[name]] == []
        # What was in work is made again, as the next cycle does.
        upload([name for name in content if name not in confirmed], store)
        assert confirmed == set(content)
