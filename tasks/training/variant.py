"""One student with other settings, trained and scored on the dev split: what tuning and the sweep over depths are made of."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.distillation.arm_params import ArmParams
from redistill.distillation.methods.base import MethodParams
from redistill.distillation.params import FinetuneCommonParams
from redistill.errors import ConfigError
from redistill.io.parquet import read_records
from redistill.models.params import PruneParams, StudentParams
from redistill.teacher.params import TeacherParams
from tasks.paths import ARTIFACTS
from tasks.training.arm import train_arm
from tasks.training.student_base import write_base


def with_depth(params: StudentParams, layers: int) -> StudentParams:
    """The same student with another number of layers: chosen as params choose, listed ones where their number is the same.

    Raises:
        ConfigError: a copied student has the depth of its base.
    """
    if params.init == "config":
        return replace(params, config_overrides={**params.config_overrides, "num_hidden_layers": layers})
    if params.init == "copy" or params.layers is None:
        raise ConfigError("student.init is copy: a copy has as many layers as its base; set it to prune to try other depths")
    if params.layers.listed is not None and len(params.layers.listed) == layers:
        return params
    return replace(params, layers=PruneParams(keep=layers, choice=params.layers.choice))


def trained(
    label: str,
    student_params: StudentParams,
    teacher: TeacherParams,
    data: DataParams,
    method: MethodParams,
    common: FinetuneCommonParams,
    arm: ArmParams,
    watch: Callable[[Any, Any, int, int], None] | None = None,
) -> tuple[Any, Any, int]:
    """Model, tokenizer and number of parameters of a student made and trained with these settings; nothing of it is kept on disk."""
    with tempfile.TemporaryDirectory(prefix="redistill-") as folder:
        parameters = write_base(student_params, teacher, Path(folder) / "base")
        # A trial is short and thrown away: it is trained in this one process, without checkpoints.
        once = replace(common, processes=1, save_every_steps=10**9)
        model, tokenizer, _ = train_arm(label, Path(folder) / "base", Path(folder) / "work", data, method, once, arm, watch)
    return model, tokenizer, parameters


def dev_rows() -> list[Prompt]:
    """The labelled rows of the dev split.

    Raises:
        ConfigError: there are none to choose by.
    """
    rows: list[Prompt] = [p for p in read_records(ARTIFACTS / "prompts" / "dev.parquet", Prompt) if p.label is not None]
    if not rows:
        raise ConfigError(
            "the dev split has no labelled rows, which are needed to compare students; give a source a share for dev in data.source"
        )
    return rows
