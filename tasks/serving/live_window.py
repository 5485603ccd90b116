"""One window of live traffic, read from what the router writes: decisions, comparisons and, where it is on, the traffic log.

A damaged file or line is left out and counted; the rest of the window is judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.data.grammars.types import Grammar, labels_in
from redistill.data.traffic.shards import shards
from redistill.data.traffic.types import LoggedRequest
from redistill.errors import DataError
from redistill.io.parquet import iter_records
from redistill.serving.drift.sample import Sample
from redistill.serving.drift.types import Live
from redistill.serving.logged_lines import logged_lines
from redistill.statistics.e_process import EProcess
from tasks.paths import COMPARISONS, DECISIONS, TRAFFIC

_MOST_ROWS = 5000
_NOT_OF_THE_TASK = ("not-trained", "bad-request")
_NOT_FAILED = "student-down"
"""The reason of requests for which the student was not asked, because it had failed before."""


@dataclass(frozen=True, slots=True)
class Span:
    """``since`` is when this student began to be watched; the window is from ``begin`` to ``end``."""

    since: float
    begin: float
    end: float


def read_window(span: Span, version: str, promised: float, grammar: Grammar | None) -> Live:
    """Everything that was logged in the window. Requests, slices and texts are of all traffic, the rest is of ``version``. Lines of the future, which a clock that was set back leaves, wait for their time."""
    notes: list[str] = []
    counts, slices, scores = _Counts(version), Sample[str](_MOST_ROWS), Sample[float](_MOST_ROWS)
    for line in logged_lines(DECISIONS, span.begin):
        if line["at"] < span.end:
            of_version = counts.add(line)
            slices.add(str(line.get("slice") or ""))
            if of_version and isinstance(score := line.get("score"), int | float):
                scores.add(float(score))
    texts, labels, gap = _texts(span, version, grammar, notes)
    compared, p_value = _compared(span, version, promised, notes)
    return Live(
        begin=span.begin,
        end=span.end,
        requests=counts.requests,
        texts=texts,
        labels=labels,
        text_gap=gap,
        slices=slices.values,
        scores=scores.values,
        asked=counts.asked,
        deferred=counts.deferred,
        failed=counts.failed,
        compared=compared,
        compared_p=p_value,
        answered=dict(counts.answered),
        reasons=dict(counts.reasons.most_common(12)),
        notes=tuple(notes),
    )


class _Counts:
    """What became of the requests. Lines of earlier routers may lack keys: where one does not name the version that was to be asked, its time decides."""

    def __init__(self, version: str) -> None:
        self._version = version
        self.requests = self.asked = self.deferred = self.failed = 0
        self.answered, self.reasons = Counter[str](), Counter[str]()

    def add(self, line: dict[str, Any]) -> bool:
        """Count a line; returns whether it can say something about the version. During a rollout, two versions are asked."""
        route, reason = str(line.get("route") or "nobody"), str(line.get("reason") or "unknown")
        failures = line.get("failures")
        failed = reason in ("malformed", "cut-off") or (
            isinstance(failures, list) and any(str(each).startswith("student ") for each in failures)
        )
        failed = failed or (reason.startswith("student-") and reason != _NOT_FAILED)
        self.requests += 1
        self.answered[route] += 1
        self.reasons[reason] += 1
        if line.get("student", self._version) != self._version:
            return False
        self.failed += failed
        self.deferred += reason == "unsure"
        self.asked += failed or reason == "unsure" or route == "student"
        return True


def _texts(span: Span, version: str, grammar: Grammar | None, notes: list[str]) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Texts, the labels that the student wrote for them, and why there are no texts."""
    texts, labels, replaced = Sample[str](_MOST_ROWS), Sample[str](_MOST_ROWS), 0
    for row in _logged(span, notes):
        if row.replaced:
            # Rows that models are judged on have no personal data, so the words that replace it would look like drift.
            replaced += 1
            continue
        texts.add("\n".join([row.messages[-1].content, *(c.value for c in row.columns)]))
        if row.student is not None and row.version == version and grammar is not None:
            labels.add("; ".join(labels_in(grammar, row.student)))
    if replaced:
        notes.append(f"{replaced:,} requests with personal data are not compared as texts")
    if not shards(TRAFFIC):
        return (), (), "there is no traffic log; set traffic.log in params.yaml"
    gap = "" if texts.seen else "no text was logged in this window"
    return texts.values, labels.values, gap


def _logged(span: Span, notes: list[str]) -> Iterator[LoggedRequest]:
    """The task's requests in the window. A shard is written whole after its last row, so one that is older than the window has none of it."""
    damaged = 0
    for file in shards(TRAFFIC):
        try:
            if file.stat().st_mtime < span.begin:
                continue
            for row in iter_records(file, LoggedRequest):
                if span.begin <= row.at < span.end and row.source == "router" and row.reason not in _NOT_OF_THE_TASK and row.messages:
                    yield row
        except (DataError, OSError):
            damaged += 1
    if damaged:
        notes.append(f"{damaged} files of {TRAFFIC} cannot be read and are left out; the rest of the window is judged")


def _compared(span: Span, version: str, promised: float, notes: list[str]) -> tuple[tuple[float, ...], float]:
    """The disagreement of the system with its teacher in this window, 0 where the teacher answered, and the p-value over all windows."""
    process, window, other = EProcess(promised), Sample[float](_MOST_ROWS), 0
    for line in logged_lines(COMPARISONS, span.since):
        by_student, value = line.get("by_student") is True, line.get("disagreement")
        if value is None and "disagreement" in line and not by_student:
            # The student failed, so nothing is known of its completion; the teacher's agrees with itself.
            value = 0.0
        if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            other += 1
            continue
        # What a share or a rule gave to the teacher says nothing about the system.
        if line.get("version") != version or line["at"] >= span.end or line.get("guarded") is False:
            continue
        loss = float(value) if by_student else 0.0
        process = process.after(loss)
        if line["at"] >= span.begin:
            window.add(loss)
    if other:
        notes.append(f"{other:,} lines of {COMPARISONS} have no disagreement and are left out")
    return window.values, process.p_value


def logs_there() -> bool:
    """Whether a router has ever written a decision here."""
    return any(Path(DECISIONS.parent).glob(f"{DECISIONS.name}*"))
