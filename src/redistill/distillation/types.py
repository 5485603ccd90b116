"""What a student learns from: rows of tokens, and the teacher's probabilities for them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

SpanKind = Literal["prompt", "completion"]
"""What tokens of a row are. Students that reason or call tools will need more kinds; the record does not change for them."""

Divergence = Literal["forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl"]
"""How far a student's distribution is from its teacher's (``redistill.distillation.losses.divergences``)."""

SignalKind = Literal["soft_targets"]
"""What a teacher can say about a row besides its text. Each kind has files of its own."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens ``begin`` to ``end`` − 1 of a row are of one kind."""

    kind: SpanKind
    begin: int
    end: int


class SignalKey(NamedTuple):
    """Which row a signal is about, which teacher it comes from, and of which kind it is."""

    prompt_id: str
    sample_index: int
    teacher: str
    kind: SignalKind = "soft_targets"

    def __str__(self) -> str:
        return f"{self.prompt_id[:12]}/{self.sample_index}"


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One sequence that a student learns from: a gold label or a teacher completion, never both.

    ``token_ids`` are the whole sequence, made once, and ``spans`` say what each part of it is, without gaps. ``tokenizer`` is the digest of the tokenizer
    that made the ids. ``completion`` is the text of the completion, for people and for audits. ``teacher`` is the digest of the teacher that completed the row, as
    the lock named it; empty on a gold row. ``slice`` is its prompt's. ``teacher_prompt_ids`` are the tokens that the teacher read before the completion; empty
    where it read what the student reads, or where its tokens are not known.
    """

    prompt_id: str
    sample_index: int
    token_ids: tuple[int, ...]
    spans: tuple[Span, ...]
    tokenizer: str
    completion: str
    origin: Literal["gold", "teacher"]
    teacher: str = ""
    slice: str = ""
    teacher_prompt_ids: tuple[int, ...] = ()

    @property
    def key(self) -> SignalKey:
        """The key of the row's soft targets."""
        return SignalKey(self.prompt_id, self.sample_index, self.teacher)

    @property
    def completion_begin(self) -> int:
        """Where the first completion starts. Nothing before it is text that the student must write."""
        return next((s.begin for s in self.spans if s.kind == "completion"), len(self.token_ids))

    @property
    def completion_ids(self) -> tuple[int, ...]:
        return tuple(i for s in self.spans if s.kind == "completion" for i in self.token_ids[s.begin : s.end])

    @property
    def teacher_token_ids(self) -> tuple[int, ...]:
        """The sequence that the teacher is scored on: its prompt, with exactly the tokens that follow the student's prompt (KD rule 11)."""
        return (*self.teacher_prompt_ids, *self.token_ids[self.completion_begin :]) if self.teacher_prompt_ids else self.token_ids

    @property
    def teacher_shift(self) -> int:
        """How many places later a completion token is in the teacher's sequence than in the student's."""
        return len(self.teacher_prompt_ids) - self.completion_begin if self.teacher_prompt_ids else 0


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """The teacher's top-K for the tokens of one row, at T = 1, in nats.

    ``sequence`` is the digest of the row's token ids (``sequence_digest``). Entry i of the arrays is the teacher's distribution of token
    ``first + i``, up to the last one. ``tail_T`` is the mass outside K, ``entropy_T`` the teacher's full entropy, and ``log_z[T]`` is
    log Σ_V exp(ℓ/T) with ℓ the log-probabilities at T = 1.
    """

    key: SignalKey
    sequence: str
    first: int
    top_ids_TK: np.ndarray
    top_logprobs_TK: np.ndarray
    tail_T: np.ndarray
    entropy_T: np.ndarray
    log_z: dict[float, np.ndarray] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Tokens of the row that these targets belong to."""
        return self.first + len(self.tail_T)


def sequence_digest(token_ids: Sequence[int] | np.ndarray) -> str:
    """A short digest of a row's token ids: text and probabilities of one row must come from the same tokens (KD rules 8 and 12)."""
    return hashlib.sha256(np.asarray(token_ids, "<i4").tobytes()).hexdigest()[:16]
