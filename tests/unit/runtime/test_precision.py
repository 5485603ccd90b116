"""What is computed in: as asked for, or as the processor does it well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = "from redistill.runtime.precision import dtype_name, resolved; print(resolved(), dtype_name(), resolved('bf16'), dtype_name('fp32'))"


def answered(isa: str | None) -> list[str]:
    """What a process says whose oneDNN uses at most the instruction set ``isa``; auto, auto's dtype, and what was asked for."""
    environment = {k: v for k, v in os.environ.items() if k != "ONEDNN_MAX_CPU_ISA"} | ({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})
    environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_processor_with_avx2_alone_computes_in_float32() -> None:
    assert answered("AVX2") == ["fp32", "float32", "bf16", "float32"], "and what is asked for stays"


def test_one_with_avx512_computes_in_bfloat16() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    if "avx512bw" not in flags or "avx512vl" not in flags or "avx512dq" not in flags:
        pytest.skip("this processor has no AVX-512")
    assert answered(None) == ["bf16", "bfloat16", "bf16", "float32"]
