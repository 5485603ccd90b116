"""Replicas on a real Ray cluster of two nodes: all results, whatever ends on the way."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redistill.cluster.connection import connected
from redistill.cluster.settings import ClusterSettings
from redistill.cluster.types import Lost
from redistill.errors import ConfigError, DataError, TeacherError
from redistill.io.json import write_json
from tasks.locking.open_teacher import open_replica
from tasks.paths import LOCK
from tests.box import wait_for
from tests.clusters import NODE, Unready, of_this_process, ray_cluster, replicas

pytestmark = pytest.mark.cycles
ITEMS = [f"item {i}" for i in range(40)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as two_nodes:
        yield two_nodes


def done(pool: Any, items: list[str], largest: int = 4, **options: Any) -> dict[int, Any]:
    """The result of each place; every place exactly once."""
    results: dict[int, Any] = {}
    for place, result in pool.results(items, largest, 1, **options):
        assert place not in results
        results[place] = result
    assert sorted(results) == list(range(len(items)))
    return results


def test_every_item_gets_its_result_from_replicas_on_both_nodes(cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with replicas(cluster) as pool:
        go = tmp_path / "go"
        # Two items that wait: no replica can do both, so both nodes work.
        items = [f"wait:{go}", *ITEMS[:3], f"wait:{go}", *ITEMS]
        seen = iter(pool.results(items, 4, 1))
        threading.Thread(target=lambda: (wait_for(Path(f"{go}.pid").exists), wait_for(lambda: ready(capfd) == 2), go.touch())).start()
        results = dict(seen)
    assert [results[i][0] for i in range(len(items))] == items
    assert len({pid for _, pid in results.values()}) == 2


_HEARD: list[str] = []


def ready(capfd: pytest.CaptureFixture[str]) -> int:
    _HEARD.append(capfd.readouterr().err)
    return "".join(_HEARD).count("is ready")


def test_a_killed_replica_is_replaced_and_its_items_are_done(cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    go = tmp_path / "go"

    def kill() -> None:
        pid_file = Path(f"{go}.pid")
        wait_for(lambda: pid_file.exists() and pid_file.read_text())
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        go.touch()

    with replicas(cluster) as pool:
        killer = threading.Thread(target=kill)
        killer.start()
        results = done(pool, [f"wait:{go}", *ITEMS])
        killer.join()
    assert not any(isinstance(result, Lost) for result in results.values())
    heard = capfd.readouterr().err
    assert heard.count("ended (") == 1 and "another one is started; its " in heard and "open items go to the others" in heard, heard


def test_an_item_that_ends_every_replica_is_lost_alone(cluster: Any) -> None:
    with replicas(cluster) as pool:
        results = done(pool, [*ITEMS[:7], "end", *ITEMS[7:]], largest=8)
    lost = [place for place, result in results.items() if isinstance(result, Lost)]
    assert lost == [7] and results[7].reason


def test_what_a_worker_raises_is_raised_here(cluster: Any) -> None:
    with replicas(cluster) as pool, pytest.raises(DataError, match=r"^row 12 is bad$"):
        done(pool, [*ITEMS, "bad row:12"])
    with replicas(cluster) as pool, pytest.raises(TeacherError, match=r"a replica on node .* failed: KeyError: 'x'; Ray's logs"):
        done(pool, ["bug:x"])


def test_a_replica_that_hangs_is_replaced(cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with replicas(cluster, timeout_s=8.0) as pool:
        done(pool, [f"hang once:{tmp_path / 'hung'}", *ITEMS])
    assert "ended (it was silent for REDISTILL_REPLICA_TIMEOUT_S=8 seconds)" in capfd.readouterr().err


def test_replicas_that_never_get_ready_end_the_stage_with_one_line(cluster: Any) -> None:
    with replicas(cluster, make=Unready, replicas=1) as pool, pytest.raises(TeacherError, match="no replica is left: each ended 3 times"):
        done(pool, ITEMS)
    with (
        replicas(cluster, cpus=64.0, timeout_s=1.0) as pool,
        pytest.raises(TeacherError, match="each needs 64 CPU, and the cluster has 2 CPU free"),
    ):
        done(pool, ITEMS)


def test_a_replica_with_other_code_is_refused(cluster: Any) -> None:
    with replicas(cluster, code=of_this_process) as pool, pytest.raises(TeacherError, match="runs other code or other package versions"):
        done(pool, ITEMS)


def test_a_node_without_the_project_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    with replicas(cluster) as pool:
        gone.rmdir()
        with pytest.raises(DataError, match=f"has no folder {gone}"):
            done(pool, ITEMS)


def test_a_node_that_locked_another_teacher_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    current = {"name": "t", "digest": "a" * 64, "parts": {}}
    capabilities = {"logprobs": "none", "max_k": 0, "tokenizer_digest": None}
    lock = {"source": {"backend": "openai"}, "current": current, "answers_from": {"default": "a" * 64}, "capabilities": capabilities}
    write_json(LOCK, lock)
    other = functools.partial(open_replica, "b" * 64)
    with replicas(cluster, make=other) as pool, pytest.raises(TeacherError, match="names teacher a{12}, but the cycle's is b{12}"):
        done(pool, ITEMS)


def test_nodes_come_and_go() -> None:
    with ray_cluster(nodes=1) as cluster, replicas(cluster, replicas=2) as pool:
        results, seen, added = pool.results(ITEMS * 50, 2, 1), set[int](), None
        for number, (_, (_, pid)) in enumerate(results):
            seen.add(pid)
            if number == 20:
                added = cluster.add_node(**NODE)
            if added is not None and len(seen) == 2:
                break
        rest = 0
        cluster.remove_node(added, allow_graceful=False)
        for _, result in results:
            assert not isinstance(result, Lost)
            rest += 1
        assert number + 1 + rest == len(ITEMS * 50)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at REDISTILL_RAY_ADDRESS=127.0.0.1:1"),
        ("somewhere", "is not an address; write HOST:PORT"),
        ("127.0.0.1:99999999", "no Ray cluster answers"),
        ("no-such-host.invalid:6379", "no Ray cluster answers"),
    ],
)
def test_a_wrong_address_is_one_line_at_once(address: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason), connected(ClusterSettings(address)):
        pass
