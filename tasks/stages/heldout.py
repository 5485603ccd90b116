"""Stage ``heldout@WHO``: the teacher, or an arm that may go live, on the sealed held-out rows. Its results decide, and are not for reading.

Also ``redistill stage heldout --checkpoint DIR --out DIR``: the same for any checkpoint, such as the live champion's.
"""

from __future__ import annotations

from pathlib import Path

from redistill.data.params import DataParams
from redistill.evaluation.params import BenchmarkParams
from redistill.io.atomic import replacing_directory
from redistill.io.json import write_json
from redistill.teacher.params import GenerateParams, TeacherParams
from tasks.results.files import SUMMARY
from tasks.results.rows import sealed_rows
from tasks.stages.benchmark import measure, measure_checkpoint


def heldout(who: str, data: DataParams, teacher: TeacherParams, generate: GenerateParams, benchmark: BenchmarkParams) -> None:
    """Measure the teacher that the lock names, or the checkpoint of an arm; nothing where people see the held-out rows anyway."""
    if not data.has_monitor:
        with replacing_directory(sealed_rows().results / who) as folder:
            write_json(folder / SUMMARY, {"who": who, "open": "the results on held-out rows are those of the stage `benchmark`"})
        return
    measure(who, sealed_rows(), data, teacher, generate, benchmark)


def heldout_checkpoint(who: str, checkpoint: Path, target: Path, data: DataParams, benchmark: BenchmarkParams) -> None:
    """Measure any checkpoint on the sealed rows."""
    measure_checkpoint(who, checkpoint, target, sealed_rows(), data, benchmark)


ON_CHECKPOINT = heldout_checkpoint
"""What ``redistill stage heldout --checkpoint DIR --out DIR`` calls."""
