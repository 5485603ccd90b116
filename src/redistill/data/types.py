"""A prompt: one request as the user would send it."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.errors import DataError
from redistill.io.digests import canonical_digest

SPLITS = ("train", "dev", "pool", "calibration", "heldout", "monitor")
"""The order decides which rows a share covers. `monitor` is last: a share for it that is taken from `heldout` moves no row of another split."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request as the user would send it.

    ``id`` is the sha256 of the canonical messages, so equal requests are one prompt wherever they come from;
    ``source_id`` is the user's own key; ``slice`` is something known without the label, such as the channel.
    """

    id: str
    source_id: str
    messages: tuple[Message, ...]
    slice: str
    label: str | None
    source: str
    planted: str | None = None

    @staticmethod
    def of(messages: tuple[Message, ...], source_id: str, slice: str, label: str | None, source: str, planted: str | None = None) -> Prompt:
        return Prompt(prompt_id(messages), source_id, messages, slice, label, source, planted)

    @property
    def text(self) -> str:
        """The last message's content: what filters and linear baselines look at."""
        return self.messages[-1].content


def prompt_id(messages: tuple[Message, ...]) -> str:
    """Sha256 of the canonical messages.

    Raises:
        DataError: the text is not valid Unicode (half of a surrogate pair, which JSON escapes can contain).
    """
    try:
        return _messages_digest(messages)
    except UnicodeEncodeError as error:
        raise DataError(
            f"text {error.object[error.start]!r} contains an incomplete Unicode character (a surrogate without its pair); export the row again"
        ) from None


def _messages_digest(messages: tuple[Message, ...]) -> str:
    return canonical_digest([[m.role, m.content] for m in messages])
