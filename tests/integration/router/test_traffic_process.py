"""The traffic log of ``redistill serve`` as a process: what is left after it is told to end, and after it is killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from redistill.data.traffic.shards import read_traffic
from tests.bench.router.processes import free_port
from tests.integration.conftest import Registry
from tests.integration.router.test_serve import answers, process, promoted, until

TRAFFIC = Path(".redistill/traffic")
RULES = {"log": True, "consent": "terms of use, section 4", "licence": "own", "shard_s": 3600.0}


def contents() -> set[str]:
    return {row.messages[-1].content for row in read_traffic(TRAFFIC)}


def writers() -> list[int]:
    import psutil

    return [p.pid for p in psutil.process_iter(["cmdline"]) if str(TRAFFIC.absolute()) in " ".join(p.info["cmdline"] or [])]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_lost_when_the_router_ends_and_what_reached_the_writer_is_not_lost_when_it_is_killed(
    make_registry: Callable[..., Registry], how: signal.Signals
) -> None:
    registry = make_registry(gates=["audit", "teacher"])
    promoted(registry)
    tree = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    Path("params.yaml").write_text(yaml.safe_dump({**tree, "traffic": RULES}), encoding="utf-8")
    student, teacher, port = free_port(), free_port(), free_port()
    addresses = {"REDISTILL_STUDENT_URL": f"http://127.0.0.1:{student}/v1", "REDISTILL_TEACHER_URL": f"http://127.0.0.1:{teacher}/v1"}
    url, name = f"http://127.0.0.1:{port}", how.name.lower()

    def ask(text: str) -> int:
        body = {"messages": [{"role": "user", "content": text}]}
        return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=10.0).status_code

    before = contents()
    with (
        process("-m", "tests.fault_models", str(teacher), "t"),
        process("-m", "redistill", "serve", "--port", str(port), **addresses) as router,
    ):
        until(lambda: router.poll() is not None or answers(f"{url}/healthz"))
        assert router.poll() is None, router.communicate()[1]
        until(lambda: ask(f"{name} 0") == 200)
        assert {ask(f"{name} {n}") for n in range(1, 40)} == {200}
        if how is signal.SIGKILL:
            # What is still in the router's own memory, for a tenth of a second, is lost with it.
            until(lambda: "redistill_traffic_waiting_rows 0.0" in httpx.get(f"{url}/metrics").text)
        assert contents() == before, "the open shard is in memory"
        router.send_signal(how)
        assert router.wait(60.0) is not None
    until(lambda: not writers())
    assert contents() - before == {f"{name} {n}" for n in range(40)}


def test_traffic_without_consent_does_not_start(make_registry: Callable[..., Registry]) -> None:
    make_registry(gates=["audit", "teacher"])
    tree = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    Path("params.yaml").write_text(yaml.safe_dump({**tree, "traffic": {"log": True, "licence": "own"}}), encoding="utf-8")
    with process("-m", "redistill", "serve") as router:
        _, said = router.communicate(timeout=60.0)
    assert router.returncode == 2 and len(said.strip().splitlines()) == 1
    assert "traffic.log is true, but traffic.consent is ''; write on what ground" in said
