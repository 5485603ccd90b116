"""Where ``up-models --next`` starts a version: never in the place of the version before it, which still answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from redistill.errors import ConfigError
from redistill.serving.route_flag import write_route
from redistill.serving.types import Rollout
from tasks.registry.transitions import FLAGS
from tasks.serving.up_models import _place
from tests.bench.router.processes import free_port
from tests.fault_models import FaultModels
from tests.routers import LABELS, STUDENT

PARAMS: Any = SimpleNamespace(data=LABELS)


@pytest.mark.parametrize(
    ("student", "following", "place"),
    [
        ("tickets@7", None, "next"),
        (None, "tickets@7", "student"),
        ("tickets@7", "tickets@8", "next"),
        ("tickets@8", "tickets@7", "student"),
        ("tickets@7", "tickets@5", "next"),
        ("tickets@5", "tickets@7", "student"),
        (None, None, "next"),
        ("tickets@7", "tickets@7", ""),
    ],
)
def test_the_version_before_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: str | None, following: str | None, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_route(FLAGS, replace(STUDENT, model_version="8", rollout=Rollout("7", None, 0.05, "2026-11-28T02:00:00+00:00")))

    async def check() -> str:
        ports, servers = {"student": free_port(), "next": free_port()}, list[TestServer]()
        for name, listed in (("student", student), ("next", following)):
            if listed is not None:
                servers.append(TestServer(FaultModels((listed,)).app(), port=ports[name]))
                await servers[-1].start_server()
        try:
            return await asyncio.get_running_loop().run_in_executor(None, _place, PARAMS, ports)
        finally:
            for server in servers:
                await server.close()

    if not place:
        with pytest.raises(ConfigError, match="no place for tickets@8"):
            asyncio.run(check())
    else:
        assert asyncio.run(check()) == place
