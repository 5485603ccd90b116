"""Which servers a router asks for students: a version that goes live later, or comes back, can get a server without a restart of the router."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from redistill.io.json import write_json
from redistill.serving.params import ServeParams
from tasks.serving import router
from tasks.serving.up_models import RECORD

STUDENT = "http://127.0.0.1:8101/v1"


@pytest.fixture
def urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    monkeypatch.chdir(tmp_path)
    for name in (router.STUDENT_URL, router.NEXT_URL):
        monkeypatch.delenv(name, raising=False)

    def of(recorded: dict[str, str], limits: ServeParams | None = None, **environment: str) -> dict[str, str]:
        if recorded:
            write_json(RECORD, {"urls": recorded})
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        router._recorded.cache_clear()
        return {place: server.url for place, server in router.student_servers(limits or ServeParams()).items()}

    return of


def test_the_second_server_of_this_machine_is_known_before_it_starts(urls: Callable[..., dict[str, str]]) -> None:
    assert urls({"student": STUDENT}) == {"student": STUDENT, "next": "http://127.0.0.1:8102/v1"}
    assert urls({"student": STUDENT, "next": "http://127.0.0.1:9000/v1"})["next"] == "http://127.0.0.1:9000/v1"


def test_a_server_elsewhere_has_a_second_one_where_somebody_says_so(urls: Callable[..., dict[str, str]]) -> None:
    elsewhere = "http://student.example:8000/v1"
    assert urls({}, REDISTILL_STUDENT_URL=elsewhere) == {"student": elsewhere}
    assert urls({}, REDISTILL_NEXT_URL="http://next.example:8000/v1")["next"] == "http://next.example:8000/v1"
