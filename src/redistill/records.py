"""The records that flow one way through a cycle.

``Prompt → TeacherCompletion → Keep | Drop → SoftTargets → StudentRun → EvalReport → PromotionDecision → Route``.
All are frozen; none has a field that means "set later". Bulk records go to Parquet, small ones to JSON
(``artifacts.py``).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from redistill.errors import DataError

if TYPE_CHECKING:
    import numpy as np

SCHEMA_VERSION = 3
"""Raised when a file written by an older redistill can no longer be read; every stage depends on it."""

SPLITS = ("train", "dev", "pool", "calibration", "heldout")

ENDPOINT = "endpoint"
"""The backend of a teacher that others run; it cannot be run on ours, so it is compared as it answers."""

StageOutcome = Literal["ran", "restored", "unchanged"]
Verdict = Literal["promote", "hold"]
GateResult = Literal["pass", "hold", "fail"]
GateUnit = Literal["points", "share", "ratio", "rows", "looks"]
"""``points``: a difference of two shares, as a share; ``share``: of rows; ``ratio``: student ÷ teacher; the others are counts."""


def canonical_digest(value: Any) -> str:
    """Sha256 of the canonical JSON of a value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


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
        DataError: the text is no Unicode (half of a surrogate pair, as JSON escapes may hold it).
    """
    try:
        return _messages_digest(messages)
    except UnicodeEncodeError as error:
        raise DataError(f"text holds {error.object[error.start]!r}, half of a character; mend the export that wrote it") from None


def _messages_digest(messages: tuple[Message, ...]) -> str:
    return canonical_digest([[m.role, m.content] for m in messages])


@dataclass(frozen=True, slots=True)
class TeacherFingerprint:
    """What makes a teacher's answers change, as a digest and the parts that it was made of."""

    name: str
    digest: str
    parts: dict[str, str]


@dataclass(frozen=True, slots=True)
class TeacherCapabilities:
    """What a teacher can tell besides text; probed when it is locked.

    ``logprobs`` is ``none``, ``at_generation`` (top-k of what it says) or ``score_given_ids`` (top-k or all of any
    given tokens). ``max_k`` is the largest k; 0 means the whole vocabulary.
    """

    logprobs: Literal["none", "at_generation", "score_given_ids"]
    max_k: int
    tokenizer_digest: str | None


@dataclass(frozen=True, slots=True)
class TeacherCompletion:
    prompt_id: str
    sample_index: int
    text: str
    reasoning: str | None
    token_ids: tuple[int, ...]
    finish_reason: str
    teacher: str
    mean_logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    pass


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that may not go on, and why. ``reason`` is one short phrase; counts are made over it."""

    filter: str
    reason: str


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """What is kept of a dropped row: never its raw text."""

    prompt_id: str
    source_id: str
    stage: str
    filter: str
    reason: str
    redacted: str
    slice: str
    planted: str | None = None


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


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """A share in [0, 1], or a ratio of two, with its 95 % interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Cost:
    """What one model costs to run here, apart from time (see ``redistill.timing``). Tokens are means over the held-out rows.

    ``parameters`` is None for an endpoint, which does not tell; ``peak_memory_bytes`` where the system does not.
    """

    parameters: int | None
    disk_bytes: int
    peak_memory_bytes: int | None
    tokens_per_request: float | None = None
    prompt_tokens_per_request: float | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """Responses of like confidence: how many, how sure on average, and how often exactly right."""

    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Does 80 % sure mean 80 % right? Expected calibration error, and the reliability bins.

    ``by_chance`` is the 95 % range of the error that a perfectly calibrated model would show on these rows; it does not reach down to 0.
    ``miscalibrated`` says that the error lies above it: of perfectly calibrated models 2.5 % would.
    """

    error: float
    by_chance: Interval
    miscalibrated: bool
    brier: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Flip:
    """A counterfactual pair whose two texts got different decisions, or no decision at all. ``message`` is what both are versions of."""

    pair: str
    kind: str
    texts: tuple[str, str]
    responses: tuple[str, str]
    message: str = ""


@dataclass(frozen=True, slots=True)
class Fairness:
    """One model on counterfactual pairs: the share whose decision flips, over all and by what the pairs differ in.

    ``n`` is the number of pairs, ``messages`` how many of them each message has. Shares are means over messages, each of which counts once.
    """

    pairs_digest: str
    n: int
    rate: Score
    kinds: dict[str, Score]
    flips: tuple[Flip, ...]
    messages: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvalReport:
    """One model on one held-out set: scores, cost, and the identities that make it comparable.

    ``architecture`` says whose times are its own (see ``redistill.timing``); empty for what has no weights here. ``breadth`` is the accuracy on benchmarks outside the task; empty for what has no likelihoods.
    """

    who: str
    model_digest: str
    heldout_digest: str
    template_digest: str
    n: int
    exact_match: Score
    f1: Score
    fields: dict[str, Score]
    slices: dict[str, Score]
    cost: Cost
    malformed: int
    backend: str
    calibration: Calibration | None = None
    chrf: float | None = None
    fairness: Fairness | None = None
    breadth: dict[str, Score] = field(default_factory=dict)
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model on one held-out row, bound to it by lm-eval's hashes.

    ``confidence`` is the probability that the model itself gives the whole response; None where it does not tell.
    """

    prompt_id: str
    doc_hash: str
    prompt_hash: str
    slice: str
    target: str
    response: str
    exact: bool
    true_positives: int
    false_positives: int
    false_negatives: int
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a promotion, with the evidence it was judged on.

    ``pass`` is shown, ``fail`` is shown to be otherwise (the whole interval lies on the wrong side of the limit), ``hold`` is neither: what is missing
    is evidence. Value, limit and interval are
    in one unit; for a statistical gate the interval is the one that decides, so it passes exactly when the whole interval lies on
    the right side of the limit. ``confidence`` is that interval's two-sided coverage, ``more_rows`` what would turn a hold into a pass.
    """

    name: str
    result: GateResult
    value: float | None
    limit: float
    unit: GateUnit
    sentence: str
    interval: Interval | None = None
    confidence: float | None = None
    p_value: float | None = None
    more_rows: int = 0

    @property
    def passed(self) -> bool:
        return self.result == "pass"


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found in the very rows that trained a student: how many of them offend, and how."""

    rows: int
    heldout_rows: int
    quotes_heldout: int
    personal_data: int
    secrets: int
    planted: int
    rows_digest: str


@dataclass(frozen=True, slots=True)
class Look:
    """One decision on one held-out set: an entry of its ledger. ``previous`` is the digest of the entry before; see ``redistill.looks``.

    ``spent`` is this look's own share of alpha, ``level`` that and what the look before handed on; ``shown`` tells whether the
    statistical gates passed at it.
    """

    heldout: str
    number: int
    key: str
    candidate: str
    spent: float
    level: float
    shown: bool
    verdict: Verdict
    at: str
    by: str
    previous: str


@dataclass(frozen=True, slots=True)
class PromotionDecision:
    verdict: Verdict
    reasons: tuple[str, ...]
    gates: tuple[Gate, ...]
    more_rows: int
    linear_suffices: bool
    level: float
    smallest_loss: float
    """The smallest loss of the metric, as a share, that these rows can rule out at this level with the wanted power."""
    metric: Literal["exact_match", "row_f1", "chrf"] = "exact_match"


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers: the operator's pin over the system's mode, and the version that the flag trusts."""

    pin: Literal["none", "teacher", "student"]
    mode: Literal["teacher", "student"]
    model_version: str | None
    reason: str
    changed_at: str

    @property
    def answers(self) -> Literal["teacher", "student"]:
        wanted = self.mode if self.pin == "none" else self.pin
        return "student" if wanted == "student" and self.model_version else "teacher"


@dataclass(frozen=True, slots=True)
class StageReceipt:
    """What became of one stage in a cycle. ``whole`` is False where it ran, but used what an earlier run had left (a checkpoint, stored
    completions): its seconds are then not those of the stage. ``machine_s`` is its share of the elapsed time, if other stages ran beside it.
    """

    stage: str
    outcome: StageOutcome
    outs: dict[str, str]
    seconds: float
    whole: bool = True
    machine_s: float | None = None

    @property
    def cost_s(self) -> float:
        """Seconds to charge for it. Over all stages of a cycle they add up to the time for which the machine was busy."""
        return self.seconds if self.machine_s is None else self.machine_s
