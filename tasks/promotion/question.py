"""One question to the ledger: may this candidate be judged now, at which level, and what is told of the answer."""

from __future__ import annotations

import dataclasses
import datetime as dt

from redistill.io.digests import canonical_digest
from redistill.params import Params
from redistill.promotion.alpha_spending import earlier_look, entry_digest, left_after, level_of, retest_question, waits_for
from redistill.promotion.decide import decide, worth_judging_alone
from redistill.promotion.evidence import Evidence
from redistill.promotion.params import PromoteParams
from redistill.promotion.retest import retest
from redistill.promotion.sealing import of_mode, without_sealed
from redistill.promotion.system import System
from redistill.promotion.types import Gate, Look, PromotionDecision, Verdict
from redistill.runtime.identity import current_user
from tasks.promotion.judgement import Judgement, of_cascade
from tasks.registry import look_ledger
from tasks.registry.client import RegistryClient


class Question:
    """One candidate, before what was asked on this held-out set and on others that share rows with it."""

    def __init__(self, client: RegistryClient, params: Params, evidence: Evidence, cascade: System | None) -> None:
        self.client, self.params, self.evidence, self.cascade = client, params, evidence, cascade
        self.whole = None if cascade is None else of_cascade(evidence, cascade)
        self.alone = self.whole is None or worth_judging_alone(evidence, params.promote)
        self.key = _question(params.promote, evidence, self.whole, alone=self.alone)
        self.ids = [outcome.prompt_id for outcome in evidence.student[1]]
        self.history = look_ledger.History.of(client, params, evidence.rows, self.ids)

    def judged(self) -> Judgement:
        promote, history = self.params.promote, self.history
        live = next((system for system in (self.evidence, self.whole) if system is not None and system.is_champion), None)
        if live is not None:
            # Nothing but what is live is judged: at this level, no other system may be promoted.
            return self._judgement(self._again(live), promote.alpha_per_heldout, live, repeated=True, is_champion=True)
        if (old := earlier_look(history.known, self.key)) is not None:
            decision = self._decided(old.level, _looks_gate(self.params, old, len(history.looks)))
            # Where something else held the system then, such as its time, people would learn now what the sealed rows say: a new look.
            if self.evidence.on_monitor is None or old.result in ("", _result(decision)):
                return self._judgement(decision, old.level, repeated=True)
        level = level_of(history.left(promote), promote)
        if level == 0.0:
            return self._judgement(self._decided(0.0, _used_up(self.params, history)), 0.0, repeated=False)
        if (rows := waits_for(history.related, self._without_rows(), len(self.ids))) is not None:
            return self._judgement(self._decided(0.0, _waits(rows, len(self.ids), level)), level, repeated=True)
        return self._looked(level)

    def _looked(self, level: float) -> Judgement:
        """A new look at this level, recorded before it is told."""
        left, looks = self.history.left(self.params.promote), self.history.looks
        number = len(looks) + 1
        decision = self._decided(level, _new_look_gate(self.params, number, level))
        systems = (["cascade"] if self.whole is not None else []) + (["student"] if self.alone else [])
        promoted = systems.index(decision.mode) if decision.verdict == "promote" else None
        look = Look(
            heldout=self.evidence.rows,
            number=number,
            key=self.key,
            candidate=self.evidence.student[0].model_digest,
            spent=level,
            level=level,
            shown=promoted is not None,
            verdict=decision.verdict,
            at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            by=current_user(),
            previous=entry_digest(looks[-1]) if looks else "",
            left=left_after(left, level, len(systems), promoted),
            question=self._without_rows(),
            n=len(self.ids),
            had=left,
            result=_result(decision),
            implied_retest="" if promoted is None else self._implied_retest(decision),
        )
        judgement = self._judgement(decision, level, repeated=False)
        look_ledger.append(self.client, self.params, look, self.history)
        return dataclasses.replace(judgement, looks=(*looks, look))

    def _again(self, live: Evidence) -> PromotionDecision:
        """A live system judged again. On sealed rows, that is its re-test and what everybody may see: each other gate would tell people something that has no
        part of the level. What the re-test tells is recorded, and is told again while the rows are almost the same.
        """
        promote = self.params.promote
        if live.on_monitor is None:
            return decide(live, promote, promote.alpha_per_heldout)
        open_gates = ("teacher", "audit", "fairness", "smaller", "faster", "lighter")
        limits = dataclasses.replace(promote, gates=tuple(g for g in promote.gates if g.name in open_gates), critical_labels={})
        decision = decide(live, limits, promote.alpha_per_heldout)
        tested = retest(live.student, live.teacher, promote).finding
        champion, teacher = live.student[0].model_digest, live.teacher[0].model_digest
        result = look_ledger.record_retest(self.client, self.params, self.history, champion, teacher, tested)
        gates = tuple(
            dataclasses.replace(gate, result="pass" if result == "holds" else "hold") if gate.name == "non_inferior_to_teacher" else gate
            for gate in decision.gates
        )
        verdict: Verdict = "promote" if all(gate.passed for gate in gates) else "hold"
        step = dataclasses.replace(decision.steps[0], gates=gates, verdict=verdict)
        return dataclasses.replace(decision, gates=gates, verdict=verdict, steps=(step,))

    def _decided(self, level: float, looks: Gate) -> PromotionDecision:
        return decide(self.evidence, self.params.promote, level, looks, self.whole, alone=self.alone)

    def _judgement(
        self, decision: PromotionDecision, level: float, live: Evidence | None = None, *, repeated: bool, is_champion: bool = False
    ) -> Judgement:
        """The judgement, without what sealed rows say. ``live`` is the only system that was judged, if that is live."""
        promote, on_monitor, public = self.params.promote, None, decision
        if (monitor := self.evidence.on_monitor) is not None:
            at = level or promote.alpha_per_heldout / promote.looks_per_heldout
            if live is not None:
                on_monitor = decide(live.public, promote, at)
            else:
                on_monitor = decide(monitor, promote, at, None, None if self.whole is None else self.whole.on_monitor, alone=self.alone)
            on_monitor = of_mode(on_monitor, decision.mode)
            public = without_sealed(decision, on_monitor, len(self.ids))
        return Judgement(
            decision=public,
            evidence=self.evidence,
            cascade=self.cascade if live is None or live is self.whole else None,
            question=self.key,
            looks=tuple(self.history.looks),
            repeated=repeated,
            is_champion=is_champion,
            on_monitor=on_monitor,
            sealed=None if on_monitor is None else decision,
        )

    def _implied_retest(self, decision: PromotionDecision) -> str:
        """The re-test of the promoted system against this teacher on these rows: it passes, since its level is the whole of alpha."""
        system = self.whole if decision.mode == "cascade" and self.whole is not None else self.evidence
        return retest_question(system.student[0].model_digest, system.teacher[0].model_digest, self.params.promote)

    def _without_rows(self) -> str:
        """What is asked, without the rows: the same system against the same teacher, gates and limits."""
        evidence, promote = self.evidence, self.params.promote
        models = [
            None if measured is None else measured[0].model_digest
            for measured in (evidence.student, evidence.teacher, evidence.champion, evidence.reference)
        ]
        system = None if self.cascade is None else dataclasses.asdict(self.cascade.cascade)
        return canonical_digest([models, system, [dataclasses.asdict(g) for g in promote.gates], promote.alpha_per_heldout, self.alone])


def _question(promote: PromoteParams, evidence: Evidence, cascade: Evidence | None, *, alone: bool) -> str:
    """Both systems are judged in one look. Without a cascade the question is the one that it was before there were cascades."""
    student = evidence.question(promote)
    if cascade is None:
        return student
    return canonical_digest([student, cascade.question(promote), promote.min_share, *([] if evidence.on_monitor is None else [alone])])


def _result(decision: PromotionDecision) -> str:
    """What people learn from a decision on sealed rows. If something that everybody may see holds the system, they learn nothing of the rows."""
    if decision.verdict == "promote":
        return f"promoted {decision.mode}"
    return "held by what is shown" if any(not g.passed and g.rows is None for g in decision.gates) else "held by sealed rows"


def _looks_gate(params: Params, look: Look, look_count: int) -> Gate:
    """The gate of a question that was asked before."""
    gate = _new_look_gate(params, look.number, look.level)
    again = "" if look_count == look.number else f" (the same question as before; {look_count} looks so far)"
    return dataclasses.replace(gate, sentence=gate.sentence + again)


def _new_look_gate(params: Params, number: int, level: float) -> Gate:
    sentence = f"look {number} at this held-out set, at level {level:.2g} of {params.promote.alpha_per_heldout:g} over all"
    return Gate("looks", "pass", number, number, "looks", sentence)


def _waits(rows: int, n: int, level: float) -> Gate:
    sentence = (
        f"this system was held before, on fewer held-out rows; there are {n:,} now, and it is judged again from {rows:,} rows on, at level {level:.2g}: "
        "a decision on almost the same rows would only use up the level"
    )
    return Gate("looks", "hold", n, rows, "looks", sentence, more_rows=rows - n)


def _used_up(params: Params, history: look_ledger.History) -> Gate:
    looks, alpha = history.looks, params.promote.alpha_per_heldout
    if any(look.kind == "retired" for look in history.related):
        why = "this held-out set was retired, so people may have seen its results"
    elif looks:
        why = f"this held-out set is used up: after {len(looks)} look{'s' * (len(looks) > 1)}, all of promote.alpha_per_heldout={alpha:g} is spent"
    else:
        why = f"the rows of this held-out set are used up: decisions on earlier sets with these rows spent all of promote.alpha_per_heldout={alpha:g}"
    sentence = f"{why}; replace the held-out set: label new prompts and use them instead"
    return Gate("looks", "hold", len(looks), len(looks), "looks", sentence)
