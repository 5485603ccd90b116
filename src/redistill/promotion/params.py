"""Section ``promote`` of params.yaml: which gates apply, with which limits, and how many looks at one held-out set are planned."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from redistill.config.base import Alpha, Margin, Positive, Share, frozen, section
from redistill.data.params import DataParams
from redistill.distillation.arm_params import FinetuneParams
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.types import Metric

AUTO = "auto"
"""The arm is chosen by calibration."""

_FLOORS: dict[Metric, float] = {"exact_match": 0.1, "row_f1": 0.2, "chrf": 0.3}
"""What a teacher must reach before "not worse than the teacher" means anything; a useless text gets a chrF of 0.1 to 0.2."""


@frozen
class NonInferiorGate:
    """The metric is not worse by `margin` or more than the teacher's, the live champion's, or the frozen reference's."""

    name: Literal["teacher", "champion", "reference"]
    """`teacher`, `champion` or `reference`."""
    margin: Margin = 0.05
    """The loss to rule out, as a share: 0.05 is five points."""


@frozen
class SlicesGate:
    """Not inferior to the teacher in every slice, with Holm's correction over the slices."""

    name: Literal["slices"]
    """`slices`."""
    margin: Margin = 0.15
    """The loss to rule out in a slice."""
    min_rows: Positive = 50
    """Smaller slices are not judged."""


@frozen
class CriticalLabelsGate:
    """Recall of every label in `promote.critical_labels` is shown to be above its floor, or not worse than the teacher's."""

    name: Literal["critical_labels"]
    """`critical_labels`."""


@frozen
class CriticalLimit:
    """What recall of a label must be shown: a floor of its own, or not worse than the teacher, or both."""

    floor: Share | None = None
    """The recall to show. No number of rows can show a recall of 1."""
    margin: Margin | None = None
    """The loss of recall against the teacher to rule out, on the held-out rows with the label."""

    @model_validator(mode="after")
    def _something(self) -> CriticalLimit:
        if self.floor is None and self.margin is None:
            raise ValueError("a critical label needs a floor, a margin against the teacher, or both")
        if self.floor is not None and self.floor >= 1.0:
            raise ValueError("no number of rows can show a recall of 1; set a floor below it, such as 0.95")
        return self


def _as_limit(given: object) -> object:
    """A number is a floor."""
    return {"floor": given} if isinstance(given, int | float) and not isinstance(given, bool) else given


@frozen
class RatioGate:
    """Student ÷ teacher of a cost."""

    name: Literal["smaller", "faster", "lighter"]
    """`smaller` (parameters), `faster` (time of a request) or `lighter` (peak memory)."""
    below: Annotated[float, Field(gt=0.0)] = 1.0
    """The ratio must lie below this."""


@frozen
class AuditGate:
    """The rows that trained this student contain no held-out text, no personal data and no secrets, and none is planted."""

    name: Literal["audit"]
    """`audit`."""


@frozen
class FairnessGate:
    """Labels and flags flip within less than `margin` more of the counterfactual pairs than with the teacher."""

    name: Literal["fairness"]
    """`fairness`."""
    margin: Margin = 0.1
    """Largest difference, as a share of the messages."""


GateParams = Annotated[
    NonInferiorGate | SlicesGate | CriticalLabelsGate | FairnessGate | RatioGate | AuditGate, Field(discriminator="name")
]


def _as_gate(given: object) -> object:
    """A name without limits is a gate with its default limits."""
    return {"name": given} if isinstance(given, str) else given


_EVERY: tuple[Any, ...] = (
    AuditGate(name="audit"),
    NonInferiorGate(name="teacher"),
    NonInferiorGate(name="champion"),
    NonInferiorGate(name="reference"),
    SlicesGate(name="slices"),
    CriticalLabelsGate(name="critical_labels"),
    RatioGate(name="smaller"),
    RatioGate(name="faster"),
)


@section("promote")
class PromoteParams:
    """Who is promoted, by which gates, and at what total chance of a wrong promotion. All gates must pass: [gates.md](gates.md)."""

    arm: str = "kd"
    """The candidate, or `auto`: the arm whose cascade answers most on the calibration rows. Held-out rows choose nothing."""
    metric: Metric | None = None
    """What the gates compare row by row: `exact_match`, `row_f1` or `chrf`; [which](gates.md#what-is-compared). Left out: `chrf` for
    `generation`, else `exact_match`."""
    min_teacher: Share | None = None
    """A teacher that scores less is too weak to compare with, and the gates against it hold. Left out: 0.1 exact match, 0.2 row F1, 0.3 chrF."""
    heldout: Literal["sealed", "open"] | None = None
    """`sealed`: held-out rows decide, and pages, metrics and commands show results on the split `monitor` only. `open`: people see the results on
    held-out rows, so `alpha_per_heldout` does not count what they learn from them. Left out: `sealed` if a source has a share of `monitor`, else
    `open`. [Why](gates.md#sealed-rows)."""
    alpha_per_heldout: Alpha = 0.05
    """The chance of ever promoting an inferior student on one held-out set, over all decisions on it."""
    looks_per_heldout: Positive = 2
    """Each decision uses one part in so many of the chance that is left: with 2 the first decision has half of it, the second a quarter. A larger
    number keeps more for later decisions."""
    hold_nights: Positive = 3
    """Nights in a row that a live champion may be on hold while it is shown to be worse than the teacher. Then traffic goes to the teacher."""
    min_share: Share = 0.2
    """A cascade whose student answers a smaller share of the requests is not worth its complexity, and is held."""
    power: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.8
    """The chance to pass for which "how many more rows" is computed."""
    approval: Literal["auto", "person"] = "auto"
    """`auto`, or `person`: a version that passes waits for `redistill promote`."""
    two_people: bool = False
    """The person who approves must not be the person who started the cycle."""
    approval_days: Positive = 14
    """For how many days a version that passed waits for a person. Later it must be judged again."""
    new_teacher_margin: Margin = 0.05
    """A new teacher replaces the present one only if a loss of so much or more is ruled out on the held-out rows."""
    critical_labels: dict[str, Annotated[CriticalLimit, BeforeValidator(_as_limit)]] = Field(default_factory=dict)
    """Label or flag, and what must be shown of its recall: a number is a floor, `{margin: 0.1}` means not worse than the teacher by so much, and
    both may be given."""
    on_unfit_teacher: Literal["stop", "continue"] = "stop"
    """What a cycle does if the teacher itself cannot reach a limit of the gates, so that no student of it can: [fitness](gates.md#is-the-teacher-fit)."""
    gates: tuple[Annotated[GateParams, BeforeValidator(_as_gate)], ...] = _EVERY
    """Which gates apply, in order, each a name or `{name, limits}`. Left out: all but `fairness` and `lighter`."""

    @model_validator(mode="after")
    def _whole(self) -> PromoteParams:
        twice = [name for name, n in Counter(g.name for g in self.gates).items() if n > 1]
        if twice:
            raise ValueError(f"gate {twice[0]!r} is listed twice in promote.gates; list each gate once")
        if not any(g.name == "teacher" for g in self.gates):
            raise ValueError("promote.gates must list the gate 'teacher': without it, the student is never compared with its teacher")
        if self.two_people and self.approval != "person":
            raise ValueError("promote.two_people needs promote.approval: person; with auto, no person approves")
        if self.critical_labels and not any(g.name == "critical_labels" for g in self.gates):
            raise ValueError(
                "critical_labels has limits, but promote.gates does not list the gate 'critical_labels' that uses them; list it, or remove the limits"
            )
        return self

    @property
    def scored_by(self) -> Metric:
        """The metric that the gates compare; what a task means by "left out" was filled in when the whole of params.yaml was read."""
        return self.metric or "exact_match"

    @property
    def sealed(self) -> bool:
        """Whether people see no results on held-out rows; what "left out" means was filled in when the whole of params.yaml was read."""
        return self.heldout == "sealed"

    @property
    def floor(self) -> float:
        return _FLOORS[self.scored_by] if self.min_teacher is None else self.min_teacher

    @property
    def teacher_gate(self) -> NonInferiorGate:
        return next(g for g in self.gates if isinstance(g, NonInferiorGate) and g.name == "teacher")


def promotion_fits(promote: PromoteParams, finetune: FinetuneParams, data: DataParams, benchmark: BenchmarkParams) -> list[str]:
    """Settings of ``promote`` that the other sections make impossible."""
    problems = []
    if promote.arm not in (*finetune.arms, AUTO):
        problems.append(f"promote.arm={promote.arm!r} is not an arm; the arms are {', '.join(finetune.arms)}")
    if promote.arm == AUTO and not any(source.splits.get("calibration") for source in data.source):
        problems.append("promote.arm: auto chooses by calibration, but no source in data.source has a share of the split `calibration`")
    if promote.arm == AUTO and AUTO in finetune.arms:
        problems.append("finetune.arms has an arm with the name 'auto', which means a choice; rename it")
    if promote.heldout == "sealed" and not data.has_monitor:
        problems.append(
            "promote.heldout: sealed shows people no results on held-out rows, but no source in data.source has a share of the split `monitor` to show "
            "instead; give one a share, or set promote.heldout: open"
        )
    if promote.heldout == "open" and data.has_monitor:
        problems.append(
            "promote.heldout: open shows people the held-out rows, but data.source has a share of the split `monitor`, which is there to be shown instead; "
            "remove that share, or set promote.heldout: sealed"
        )
    if promote.metric == "row_f1" and data.grammar is None:
        problems.append("promote.metric: row_f1 counts the items of a record, but free text (data.task: generation) has none; use chrf")
    if critical := set(promote.critical_labels) - set(data.grammar.names if data.grammar else ()):
        meant = "a PATH=VALUE that data.schema lists" if data.task == "json" else "a label or flag of data.record"
        problems.append(f"promote.critical_labels.{min(critical)} is not {meant}")
    if benchmark.fairness is not None and data.grammar is not None and not data.grammar.decides:
        problems.append(
            "benchmark.fairness compares the decisions of both texts of a pair, but data.schema lists no values (enum, const or boolean), so no pair could ever "
            "differ; list the values of what the student decides, or remove benchmark.fairness"
        )
    if benchmark.fairness is None and any(g.name == "fairness" for g in promote.gates):
        problems.append(
            "promote.gates lists 'fairness', but benchmark.fairness names no file of counterfactual pairs; name one, or remove the gate"
        )
    return problems


def with_implied(promote: PromoteParams, data: DataParams) -> PromoteParams:
    """The metric that the task implies, and whether held-out rows are sealed, where they are not chosen."""
    return replace(
        promote,
        metric=promote.metric or ("chrf" if data.grammar is None else "exact_match"),
        heldout=promote.heldout or ("sealed" if data.has_monitor else "open"),
    )
