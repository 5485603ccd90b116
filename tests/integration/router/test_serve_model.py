"""``redistill serve-model``: nothing open without a key, nothing served that is not live, and the server follows the flag."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from contextlib import suppress

import httpx
import psutil
import pytest

from redistill.errors import ConfigError
from redistill.runtime.precision import dtype_name, training_device
from tests.bench.router.processes import free_port
from tests.integration.conftest import Registry
from tests.integration.router.test_serve import KEY, process, promoted, until
from tests.tiny_project import ROOT


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_an_open_address_needs_a_key(make_registry: Callable[..., Registry], side: str) -> None:
    from tasks.serving.one_model import serve_model
    from tasks.serving.router import Address

    registry = make_registry(gates=["audit", "teacher"])
    with pytest.raises(ConfigError, match=f"the router needs a key; set REDISTILL_{side.upper()}_API_KEY"):
        serve_model(registry.params, side, Address("0.0.0.0", free_port()), print)


def test_a_teacher_that_is_an_endpoint_has_no_server(make_registry: Callable[..., Registry]) -> None:
    from tasks.serving.one_model import serve_model
    from tasks.serving.router import Address

    registry = make_registry(gates=["audit", "teacher"])
    promoted(registry)
    with pytest.raises(ConfigError, match="the teacher needs no server here: the locked teacher is an endpoint"):
        serve_model(registry.params, "teacher", Address("127.0.0.1", free_port()), print)


@pytest.mark.long
def test_the_live_version_is_served_with_its_key_and_the_server_ends_with_the_command(make_registry: Callable[..., Registry]) -> None:
    registry = make_registry(gates=["audit", "teacher"])
    name, port = registry.params.data.name, free_port()
    url, headers = f"http://127.0.0.1:{port}/v1/models", {"Authorization": f"Bearer {KEY}"}

    def listed() -> list[str]:
        with suppress(httpx.HTTPError):
            response = httpx.get(url, headers=headers, timeout=5.0)
            return [model["id"] for model in response.json()["data"]] if response.status_code == 200 else []
        return []

    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    command = ("-m", "redistill", "serve-model", "student", "--port", str(port))
    with process(*command, REDISTILL_STUDENT_API_KEY=KEY) as running:
        assert running.stderr is not None
        lines = list[str]()
        while "starts after the first promotion" not in (line := running.stderr.readline()):
            assert line, "".join(lines)
            lines.append(line)
        version = promoted(registry)
        until(lambda: running.poll() is not None or listed(), 300.0)
        served = f"{name}@{version}"
        assert listed() == [served, f"{served}:{dtype_name(device=training_device())}"], running.communicate()[1][-2000:]
        assert httpx.get(url, timeout=5.0).status_code == 401
        [server] = psutil.Process(running.pid).children()
        running.send_signal(signal.SIGTERM)
        assert running.wait(60.0) in (0, 143)
        until(lambda: not server.is_running())
        assert KEY not in "".join(lines) + running.stderr.read()
