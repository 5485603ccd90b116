"""How a completion ended, in one spelling: servers have many."""

from __future__ import annotations

STOP, LENGTH, UNKNOWN = "stop", "length", "unknown"
REFUSED, FAILED, TOO_LONG, UNFINISHED_REASONING = "refused", "failed", "too long", "unfinished reasoning"
"""Not a server's words: the endpoint refused this prompt, it failed at each try, the prompt does not fit the model, or the model did not stop reasoning."""

WITHOUT_COMPLETION = frozenset({REFUSED, FAILED, TOO_LONG})

_STOP = frozenset({"stop", "eos", "eos_token", "end_turn", "end_of_turn", "stop_sequence", "stop_token", "complete", "completed", "finish"})
_LENGTH = frozenset({"length", "max_tokens", "max_length", "model_length", "max_output_tokens", "token_limit"})
_BROKEN = frozenset({"error", "insufficient_system_resource", "abort", "aborted", "cancelled", "canceled", "timeout", "overloaded"})


def ending(reason: object) -> str:
    """A server's finish reason: ``stop``, ``length``, or its own word in small letters where it means something else."""
    word = " ".join(reason.split()).lower().removeprefix("finish_reason_")[:40] if isinstance(reason, str) else ""
    if word in _STOP:
        return STOP
    return LENGTH if word in _LENGTH else word or UNKNOWN


def broken_off(word: str) -> bool:
    """Whether the server failed while it wrote, so that another try may succeed."""
    return word in _BROKEN
