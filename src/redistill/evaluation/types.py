"""One model on one held-out set: scores, cost, probes, and the outcome of each row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from redistill.statistics.types import Interval, Score

Metric = Literal["exact_match", "row_f1", "chrf"]
"""How a response is scored: exact match with the label, F1 of its items, or chrF of free text."""


Objection = Literal["", "malformed", "cut-off"]
"""Why a completion cannot be used, whatever its label is: it breaks the grammar or names what the message does not have, or it is longer than max_tokens."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """One score of how sure a model is of one response; a larger value is surer."""

    score: str
    value: float


@dataclass(frozen=True, slots=True)
class Sureness:
    """What a model's token probabilities say of one response: the probability of the whole, and every score. ``cut_off``: it did not end by itself."""

    probability: float
    confidences: tuple[Confidence, ...]
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What one model costs to run here, apart from time (see ``redistill.evaluation.timing``). Tokens are means over the held-out rows.

    ``parameters`` is None for an endpoint, which does not report it; ``peak_memory_bytes`` is None on systems that do not report it.
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
    """Expected calibration error, and the reliability bins: are responses with a confidence of 80 % right in 80 % of the cases?

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
class PairOutcome:
    """One model on one counterfactual pair. ``confidences`` are those of the two responses; empty if the model does not report them."""

    pair: str
    kind: str
    message: str
    texts: tuple[str, ...]
    responses: tuple[str, ...]
    confidences: tuple[tuple[Confidence, ...], ...] = ()


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

    ``malformed_freely`` counts malformed responses without structured outputs; None where they are not used, or where it is not known. ``architecture`` says whose times are its own (see ``redistill.evaluation.timing``); empty for what has no weights here. ``breadth`` is the accuracy on benchmarks outside the task; empty for what has no likelihoods.
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
    malformed_freely: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model on one held-out row, bound to it by lm-eval's hashes.

    ``confidence`` is the probability that the model itself gives the whole response; None if the model does not report it. ``confidences`` are the
    scores of ``redistill.evaluation.confidence``; empty if the model does not report them. ``freely`` is the response without structured outputs, where it
    is another one. ``objection`` says why a cascade gives the row to the teacher, however sure the model is.
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
    confidences: tuple[Confidence, ...] = ()
    freely: str | None = None
    objection: Objection = ""
