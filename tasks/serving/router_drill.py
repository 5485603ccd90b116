"""The drill through the router: does a caller get a usable completion of the teacher while the student is off?

"Off" is for the drill's own requests: the router treats them as if the student's server had refused, so the real way to the teacher is taken and no other
caller notices. A router of another machine accepts no drill from here; it is asked with the header that demands the teacher.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redistill.data.templates import earlier_messages
from redistill.data.types import Prompt
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.serving.router.asked import OURS, ROUTE_HEADER
from redistill.serving.router.decision import DRILL, DRILL_HEADER
from tasks.operations.drill import DrillCheck
from tasks.paths import ARTIFACTS
from tasks.serving.recorded_router import RunningRouter, running_router

MONITOR = ARTIFACTS / "prompts" / "monitor.parquet"
_CANARIES = 3
_EXPECTED = "a usable completion of the teacher"
_READER = "the router"
_LIMIT_S = 60.0


def drill_router(params: Params, prompts: Path = MONITOR) -> list[DrillCheck]:
    """A few known prompts through the router that runs; nothing where none does."""
    router = running_router()
    if router is None:
        return []
    advice = f"look at the teacher's server and at {router.url}/readyz: while this lasts, nobody answers what the student cannot"
    canaries = read_records(prompts, Prompt)[:_CANARIES] if prompts.is_file() else []
    if not canaries:
        return [DrillCheck("the student off", _READER, _EXPECTED, f"no prompt, because {prompts} is not here", "get it with `dvc pull`")]
    return [
        DrillCheck(f"the student off, canary {number}", _READER, _EXPECTED, got, advice)
        for number, got in enumerate(_asked(router, canaries, params), 1)
    ]


def _asked(router: RunningRouter, canaries: list[Prompt], params: Params) -> Iterator[str]:
    import httpx

    key = os.environ.get("REDISTILL_SERVE_API_KEY", "").strip()
    headers = {DRILL_HEADER: router.token} if router.token else {ROUTE_HEADER: "teacher"}
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(timeout=_LIMIT_S, trust_env=False) as client:
        for prompt in canaries:
            try:
                response = client.post(f"{router.url}/v1/chat/completions", json=_body(prompt), headers=headers)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                yield f"no response ({type(error).__name__})"
            else:
                yield _seen(response, prompt, params, drilled=bool(router.token))


def _body(prompt: Prompt) -> dict[str, Any]:
    messages = [*earlier_messages(prompt), prompt.messages[-1]]
    ours = {"slice": prompt.slice, "columns": {c.name: c.value for c in prompt.columns}, "key": "redistill drill"}
    return {"messages": [{"role": m.role, "content": m.content} for m in messages], OURS: ours}


def _seen(response: Any, prompt: Prompt, params: Params, *, drilled: bool) -> str:
    """What the caller got, never the completion itself."""
    headers = response.headers
    route, reason = headers.get("X-Redistill-Route", "none"), headers.get("X-Redistill-Reason", "")
    if response.status_code != 200 or route != "teacher":
        return f"status {response.status_code}, route {route}, reason {reason or 'none'}"
    word = reason.partition(":")[0]
    # A teacher that answers anyway, by the flag, is the way that is taken tonight.
    if drilled and word not in (DRILL, "mode", "pin", "slice", "share", "unverified", "no-route"):
        return f"the teacher, with reason {word or 'none'}"
    try:
        text = str(response.json()["choices"][0]["message"]["content"])
    except (ValueError, LookupError, TypeError):
        return "no completion in the response"
    objection = params.data.grammar.objection(text, prompt.text) if params.data.grammar is not None else None
    return _EXPECTED if text.strip() and objection is None else "a completion that the task's form does not allow"
