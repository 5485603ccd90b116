"""The whole tree of params.yaml, checked at once. Only flows and the command line load it; a stage loads its own sections."""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from redistill.config.file import PARAMS, mapping, read_tree, several, validated
from redistill.data.params import DataParams
from redistill.distillation.arm_params import FinetuneParams, arms_fit
from redistill.distillation.params import ScoreParams, TuneTeacherParams, tuning_fits
from redistill.evaluation.params import BenchmarkParams
from redistill.models.params import StudentParams
from redistill.operations.params import NotifyParams, RetentionParams, ScheduleParams
from redistill.promotion.params import PromoteParams, promotion_fits, with_implied
from redistill.promotion.thresholds.params import RouteParams
from redistill.report.params import EconomicsParams
from redistill.serving.drift.params import DriftParams
from redistill.serving.params import ServeParams
from redistill.serving.traffic.params import TrafficParams, traffic_fits
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.tuning.params import SweepParams, TuneParams, space_fits, sweep_fits
from redistill.validation.params import GovernanceParams, IntakeParams, ValidateParams


@dataclass(frozen=True, kw_only=True)
class Params:
    data: DataParams
    intake: IntakeParams
    governance: GovernanceParams
    teacher: TeacherParams
    tune_teacher: TuneTeacherParams
    generate: GenerateParams
    validate: ValidateParams
    score: ScoreParams
    student: StudentParams
    finetune: FinetuneParams
    benchmark: BenchmarkParams
    promote: PromoteParams
    sweep: SweepParams
    route: RouteParams = field(default_factory=RouteParams)
    tune: TuneParams = field(default_factory=TuneParams)
    serve: ServeParams = field(default_factory=ServeParams)
    drift: DriftParams = field(default_factory=DriftParams)
    traffic: TrafficParams = field(default_factory=TrafficParams)
    economics: EconomicsParams = field(default_factory=EconomicsParams)
    schedule: ScheduleParams = field(default_factory=ScheduleParams)
    notify: NotifyParams = field(default_factory=NotifyParams)
    retention: RetentionParams = field(default_factory=RetentionParams)


CROSS_CHECKS: tuple[Callable[..., list[str]], ...] = (arms_fit, tuning_fits, sweep_fits, space_fits, promotion_fits, traffic_fits)
"""Checks over several sections. Each check is in the file of the section that it is about. Its parameters have the names of the sections that it reads."""


def load_params(path: str | os.PathLike[str] = PARAMS) -> Params:
    """Read, check and freeze ``params.yaml``.

    Raises:
        ConfigError: absent, not YAML, or one part for each unknown key, missing key, wrong type and impossible value.
    """
    return parse_params(read_tree(path), str(path))


def parse_params(tree: object, where: str = "params") -> Params:
    """Check each section, and the cross-checks of all sections that are right by themselves.

    Raises:
        ConfigError: see ``load_params``.
    """
    sections: dict[str, Any] = {}
    tree, kinds = mapping(tree, where), typing.get_type_hints(Params)
    problems = [f"{key} is not a known key" for key in tree if key not in kinds]
    for each in fields(Params):
        if each.name not in tree:
            if each.default_factory is MISSING:
                problems.append(f"{each.name} is missing")
            else:
                sections[each.name] = each.default_factory()
            continue
        checked, wrong = validated(kinds[each.name], tree[each.name], each.name)
        problems += wrong
        if checked is not None:
            sections[each.name] = checked
    for check in CROSS_CHECKS:
        needs = inspect.signature(check).parameters
        if sections.keys() >= needs.keys():
            problems += check(**{name: sections[name] for name in needs})
    if problems:
        raise several(where, problems)
    return Params(**{**sections, "promote": with_implied(sections["promote"], sections["data"])})
