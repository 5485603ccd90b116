"""Calibration of a student's confidence: rows, curves, and the threshold that was chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from redistill.evaluation.types import Confidence, Objection
from redistill.promotion.cascade import Cascade


@dataclass(frozen=True, slots=True)
class Limits:
    """What the section ``route`` means for this project: ``sources.lock.json`` holds it, with the limit that is meant where none is set."""

    max_disagreement: float
    doubt: float
    bands: dict[str, float]

    def band_of(self, score: str) -> float:
        """By how much a score may differ between engines and batches, in nats; a score that was never measured must not be used, so it gets a huge one."""
        return self.bands.get(score, math.inf)


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """The student's completion of a calibration row beside the teacher's. ``label`` is None where the row has none.

    ``disagreement`` is 0 where both wrote the same and 1 where they did not; of free text it is 1 - chrF. With an ``objection`` the teacher answers the row
    however sure the student is.
    """

    prompt_id: str
    slice: str
    label: str | None
    student: str
    teacher: str
    disagreement: float
    confidences: tuple[Confidence, ...]
    objection: Objection = ""

    def confidence(self, score: str) -> float:
        """The value of a score; NaN, which always defers, where the completion has none or cannot be used."""
        return math.nan if self.objection else next((c.value for c in self.confidences if c.score == score), math.nan)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One threshold on the calibration rows: the share that the student answers, and the disagreement per request that this costs.

    ``system`` is the share of labelled rows that the cascade has right; None without labels.
    """

    threshold: float
    answered: float
    disagreement: float
    system: float | None


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """One score on the calibration rows. ``answered`` is the share above threshold and band, 0 if there is none. ``threshold`` keeps the limit.

    ``auroc_agrees`` is how well the score separates agreement from disagreement with the teacher, ``auroc_right`` right from wrong on labelled rows; None
    where only one kind of row is there.
    """

    score: str
    area: float
    auroc_agrees: float | None
    auroc_right: float | None
    answered: float
    threshold: float | None
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class CascadeCalibration:
    """How the cascade of one student was chosen. ``cascade`` is None where there is none, and ``reason`` says why, or how it was chosen.

    ``student_right`` and ``teacher_right`` are shares of the labelled rows.
    """

    arm: str
    model_digest: str
    template_digest: str
    rows: int
    labelled: int
    limit: float
    doubt: float
    agreement: float
    student_right: float | None
    teacher_right: float | None
    curves: tuple[ScoreCurve, ...]
    cascade: Cascade | None
    reason: str
