"""What became of one stage in a cycle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from redistill.teacher.use import TeacherUse

StageOutcome = Literal["ran", "restored", "unchanged"]


@dataclass(frozen=True, slots=True)
class StageReceipt:
    """The result of one stage in a cycle. ``whole`` is False if it ran but used a checkpoint or stored completions of an earlier run: its
    seconds are then not those of the whole stage. ``machine_s`` is its share of the elapsed time, if other stages ran at the same time.
    ``why`` says why it ran.
    """

    stage: str
    outcome: StageOutcome
    outs: dict[str, str]
    seconds: float
    whole: bool = True
    machine_s: float | None = None
    why: tuple[str, ...] = ()
    teacher: TeacherUse = field(default_factory=TeacherUse)

    @property
    def cost_s(self) -> float:
        """Seconds to charge for it. Over all stages of a cycle they add up to the time for which the machine was busy."""
        return self.seconds if self.machine_s is None else self.machine_s
