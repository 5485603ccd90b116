"""The floating-point type of computations: bfloat16 if the hardware supports it natively, otherwise float32.

Without native support, one product takes 5 to 70 times as long: an AVX2 processor was measured at 83 billion operations a second in float32 and at 1 to 16 in
bfloat16. Weights are kept in bfloat16 on disk everywhere; only the arithmetic differs, and every report names it.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "bf16", "fp32"]
"""The possible settings; ``auto`` is the type that the hardware supports natively."""


Device = Literal["cpu", "cuda"]


def training_device() -> Device:
    """Where the Trainer and vLLM put a model; scoring and benchmarks stay on the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def own_device() -> torch.device:
    """The same for this process of several, before the Trainer has said so: torchrun gives each GPU one."""
    import torch

    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if training_device() == "cuda" else torch.device("cpu")


@functools.cache
def multiplies_bf16(device: Device = "cpu") -> bool:
    """Whether bfloat16 products are fast there. On a CPU that is oneDNN's own check: AVX-512 or newer."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def resolved(precision: Precision = "auto", device: Device = "cpu") -> Literal["bf16", "fp32"]:
    """The type for ``auto`` on this device (bfloat16 if native, otherwise float32); other values are returned unchanged."""
    if precision == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    return precision


def dtype_name(precision: Precision = "auto", device: Device = "cpu") -> Literal["bfloat16", "float32"]:
    """The names of the type in torch, transformers and vLLM."""
    return "bfloat16" if resolved(precision, device) == "bf16" else "float32"
