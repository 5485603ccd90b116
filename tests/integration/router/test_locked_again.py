"""A teacher that is locked again while the router runs: it answers once its server lists it, and a lock that cannot be read changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from redistill.io.json import write_json
from tasks.paths import LOCK
from tasks.serving.models import follow_lock
from tests.integration.router.test_watch import until
from tests.routers import LABELS, TEACHER, running

TREE: dict[str, Any] = {
    "source": {"backend": "openai"},
    "current": {"name": "t", "digest": "teacher", "parts": {}},
    "answers_from": {"default": "teacher"},
    "capabilities": {"logprobs": "none", "max_k": 0, "tokenizer_digest": None},
}


def test_the_router_follows_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    made: Any = SimpleNamespace(data=LABELS, benchmark=SimpleNamespace(max_tokens=16), teacher=SimpleNamespace(model="t"))

    async def check() -> None:
        said = ""

        def tells(words: str) -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return words in said

        async with running(TEACHER, teacher="ok:fee") as router:
            models = router.parts.models
            write_json(LOCK, TREE)
            following = asyncio.ensure_future(follow_lock(made, models))
            await asyncio.sleep(0)
            LOCK.write_text("{", encoding="utf-8")
            await until(lambda: tells("cannot be used"))
            write_json(LOCK, {**TREE, "current": {**TREE["current"], "digest": "another"}})
            await until(lambda: tells("does not list"))
            assert models.teacher.model == "ok:fee" and (await router.ask()).status == 200
            router.teacher.listed = (made.teacher.model,)
            await until(lambda: models.teacher.model == made.teacher.model)
            following.cancel()

    asyncio.run(check())
