"""What a student learns from: rows of text, and the teacher's probabilities of their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One sequence a student learns from: gold label or teacher completion, never both.

    ``teacher`` is the digest of the teacher that completed it, as the lock named it for this row; None on a gold row. ``slice`` is its prompt's.
    """

    prompt_id: str
    sample_index: int
    prompt: str
    completion: str
    completion_ids: tuple[int, ...]
    origin: Literal["gold", "teacher"]
    teacher: str | None = None
    slice: str = ""


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """The teacher's top-K for the tokens of one row, at T = 1, in nats.

    ``token_ids_L`` is the whole sequence; entry i of the arrays is the teacher's distribution of token
    ``first + i``, for ``first + i`` up to the last one. ``tail_T`` is the mass outside K, ``entropy_T`` the
    teacher's full entropy, and ``log_z[T]`` is log Σ_V exp(ℓ/T) with ℓ the log-probabilities at T = 1. ``teacher`` is the
    digest of the teacher that gave them.
    """

    prompt_id: str
    sample_index: int
    token_ids_L: np.ndarray
    first: int
    top_ids_TK: np.ndarray
    top_logprobs_TK: np.ndarray
    tail_T: np.ndarray
    entropy_T: np.ndarray
    log_z: dict[float, np.ndarray] = field(default_factory=dict)
    teacher: str = ""
