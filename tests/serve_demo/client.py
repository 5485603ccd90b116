"""Asks through the router with OpenAI's client, as a caller does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from redistill.data.normal_form import normalised
from redistill.data.types import Prompt
from redistill.params import Params
from tests.serve_demo.checks import until

AT_A_TIME = 8


@dataclass(frozen=True, slots=True)
class Answered:
    """One response: who answered it and why, how long it took, and whether it is exactly the label."""

    who: str
    reason: str
    seconds: float
    right: bool
    status: int


class Client:
    def __init__(self, url: str, params: Params) -> None:
        from openai import OpenAI

        self.url, self._params = url, params
        # One try: what a caller sees is what is counted.
        self._client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120.0)

    def ask(self, row: Prompt) -> Answered:
        from openai import APIStatusError

        begin = time.perf_counter()
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._params.data.name,
                messages=[{"role": m.role, "content": m.content} for m in row.messages],  # type: ignore[misc]
                extra_body={"redistill": {"slice": row.slice, "columns": {c.name: c.value for c in row.columns}}},
            )
        except APIStatusError as error:
            return Answered("none", "", time.perf_counter() - begin, False, error.status_code)
        text = raw.parse().choices[0].message.content or ""
        who, reason = str(raw.headers["X-Redistill-Route"]), str(raw.headers["X-Redistill-Reason"]).partition(":")[0]
        return Answered(who, reason, time.perf_counter() - begin, normalised(text) == normalised(row.label or ""), 200)

    def ask_all(self, rows: Sequence[Prompt]) -> list[Answered]:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            return list(pool.map(self.ask, rows))

    def ready(self) -> dict[str, Any]:
        with suppress(httpx.HTTPError, ValueError):
            return dict(httpx.get(f"{self.url}/readyz", timeout=5.0).json())
        return {}

    def wait_for_mode(self, mode: str) -> None:
        """Until the router has read the flag, and the student is proved where it may answer."""
        until(lambda: (ready := self.ready()).get("answers") == mode and (mode == "teacher" or ready.get("unverified") == ""))
