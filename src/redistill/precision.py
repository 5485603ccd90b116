"""Which floating-point type is computed in: bfloat16 where the machine multiplies it, float32 where it would only imitate it.

Imitated, one product takes 5 to 70 times as long: an AVX2 processor was measured at 83 billion operations a second in float32 and at 1 to 16 in
bfloat16. Weights are kept in bfloat16 on disk everywhere; only the arithmetic differs, and every report names it.
"""

from __future__ import annotations

import functools
from typing import Literal

Precision = Literal["auto", "bf16", "fp32"]
"""What may be asked for; ``auto`` is what the machine does well."""


@functools.cache
def multiplies_bf16() -> bool:
    """Whether the device that training and benchmarks use has instructions for bfloat16 (oneDNN's own check on a CPU)."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def resolved(precision: Precision = "auto") -> Literal["bf16", "fp32"]:
    """``auto`` as this machine has it; anything else as it is."""
    if precision == "auto":
        return "bf16" if multiplies_bf16() else "fp32"
    return precision


def dtype_name(precision: Precision = "auto") -> Literal["bfloat16", "float32"]:
    """The same as torch, transformers and vLLM spell it."""
    return "bfloat16" if resolved(precision) == "bf16" else "float32"
