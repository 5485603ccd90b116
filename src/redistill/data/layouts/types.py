"""What a row asks, however its file writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redistill.data.types import Message


@dataclass(frozen=True, slots=True)
class Request:
    """The conversation up to the request, and the ``completion`` that the row holds; None where it holds none."""

    messages: tuple[Message, ...]
    completion: Any = None
