"""``model.generate`` ends where the task's stop sequences say; in a module of its own, since transformers is slow to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList


class StopsAtText(StoppingCriteria):
    """Ends each row of ``model.generate`` once what it wrote after ``start`` tokens holds a stop sequence of that row."""

    def __init__(self, tokenizer: Any, stops: Sequence[Sequence[str]], start: int) -> None:
        self._tokenizer, self._stops, self._start = tokenizer, stops, start
        # A token spells a byte or more; two more, since some tokenizers write the first token of a text otherwise.
        self._window = 2 + max((len(stop.encode()) for row in stops for stop in row), default=0)
        self._done = [False] * len(stops)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        tails = input_ids[:, max(self._start, input_ids.shape[1] - self._window) :]
        for row, text in enumerate(self._tokenizer.batch_decode(tails)):
            self._done[row] = self._done[row] or any(stop in text for stop in self._stops[row])
        return torch.tensor(self._done, device=input_ids.device)


def stopping_criteria(tokenizer: Any, stops: Sequence[Sequence[str]], start: int) -> StoppingCriteriaList:
    """For ``model.generate``: nothing where no row has a stop sequence."""
    return StoppingCriteriaList([StopsAtText(tokenizer, stops, start)] if any(stops) else [])
