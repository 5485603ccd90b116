"""The budget of one run: every request reserves the most that it may cost before it is sent, so a limit is never exceeded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from redistill.errors import ConfigError, TeacherError
from redistill.teacher.params import TeacherParams


class Budget:
    """Tokens of one endpoint: ``usage`` counts those since construction, of prompts and of completions.

    Raises:
        ConfigError: a limit in USD without prices.
    """

    def __init__(self, params: TeacherParams, url: str) -> None:
        self._params, self._url = params, url
        self.usage, self._reserved = Counter[str](), Counter[str]()
        if params.budget_usd is not None and not self._usd(Counter(prompt_tokens=1, completion_tokens=1)):
            raise ConfigError(
                f"teacher.budget_usd={params.budget_usd:g} has no effect while both prices are 0; set teacher.usd_per_million_prompt_tokens and "
                "teacher.usd_per_million_completion_tokens"
            )

    async def reserve(self, texts: Sequence[str], max_tokens: int) -> Counter[str]:
        """Reserve the maximum cost of one request. If the budget is too small for it, wait while open requests may still return a part of their reservation.

        Raises:
            TeacherError: the budget is used up.
        """
        p = self._params
        # 3 bytes a token, 8 tokens a template.
        need = Counter(prompt_tokens=sum(len(t.encode()) // 3 + 8 for t in texts), completion_tokens=max_tokens)
        budgets = [("teacher.budget_tokens", p.budget_tokens, Counter[str].total), ("teacher.budget_usd", p.budget_usd, self._usd)]
        while over := [b for b in budgets if b[1] is not None and b[2](self.usage + self._reserved + need) > b[1]]:
            if not self._reserved:
                key, limit, count = over[0]
                raise TeacherError(
                    f"the budget of the teacher at {self._url} is used up: {count(self.usage):.10g} of {key}={limit:.10g} is spent, and the next "
                    f"request may need {count(need):.6g}; all completions so far are stored; raise {key}, then run again"
                )
            await asyncio.sleep(0.02)
        self._reserved += need
        return need

    def settle(self, need: Counter[str], spent: Counter[str]) -> None:
        """Replace a reservation by what the request cost."""
        self._reserved -= need
        self.usage += spent

    def _usd(self, used: Counter[str]) -> float:
        prompt_usd = used["prompt_tokens"] * self._params.usd_per_million_prompt_tokens
        return (prompt_usd + used["completion_tokens"] * self._params.usd_per_million_completion_tokens) / 1e6
