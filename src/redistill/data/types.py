"""A prompt: one request as the user would send it."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.errors import DataError
from redistill.io.digests import canonical_digest

SPLITS = ("train", "dev", "pool", "calibration", "heldout", "monitor")
"""The order decides which rows a share covers. `monitor` is last: a share for it that is taken from `heldout` moves no row of another split."""

DEFAULT_SLICE = "all"
"""The slice of rows that name none."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column besides the message that the prompt template shows."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request as the user would send it.

    ``id`` is the sha256 of everything in the row that a model is shown: the canonical messages, and the ``columns`` that the prompt template names. So
    equal requests are one prompt wherever they come from. ``source_id`` is the user's own key; ``slice`` is something known without the label, such as
    the channel.
    """

    id: str
    source_id: str
    messages: tuple[Message, ...]
    slice: str
    label: str | None
    source: str
    planted: str | None = None
    columns: tuple[Column, ...] = ()

    @staticmethod
    def of(
        messages: tuple[Message, ...],
        source_id: str,
        slice: str,
        label: str | None,
        source: str,
        planted: str | None = None,
        columns: tuple[Column, ...] = (),
    ) -> Prompt:
        return Prompt(prompt_id(messages, columns), source_id, messages, slice, label, source, planted, columns)

    @property
    def text(self) -> str:
        """The last message and the columns shown beside it: what filters and linear baselines look at."""
        return "\n".join([self.messages[-1].content, *(c.value for c in self.columns)])


def prompt_id(messages: tuple[Message, ...], columns: tuple[Column, ...] = ()) -> str:
    """Sha256 of the canonical messages and of the columns that are shown with them.

    Raises:
        DataError: the text is not valid Unicode (half of a surrogate pair, which JSON escapes can contain).
    """
    try:
        return _digest(messages, columns)
    except UnicodeEncodeError as error:
        raise DataError(
            f"text {error.object[error.start]!r} contains an incomplete Unicode character (a surrogate without its pair); export the row again"
        ) from None


def _digest(messages: tuple[Message, ...], columns: tuple[Column, ...]) -> str:
    turns = [[m.role, m.content] for m in messages]
    # Without columns it is the digest of earlier versions, so that no row changes its split.
    return canonical_digest({"messages": turns, "columns": [[c.name, c.value] for c in columns]} if columns else turns)
