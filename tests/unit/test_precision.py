"""What is computed in: as asked for, or as the machine does it well."""

from __future__ import annotations

import pytest
import torch

from redistill import precision


@pytest.mark.parametrize(("has_it", "resolved", "dtype"), [(True, "bf16", "bfloat16"), (False, "fp32", "float32")])
def test_auto_is_what_the_machine_multiplies(monkeypatch: pytest.MonkeyPatch, has_it: bool, resolved: str, dtype: str) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: has_it)
    assert (precision.resolved(), precision.dtype_name()) == (resolved, dtype)
    assert (precision.resolved("bf16"), precision.dtype_name("fp32")) == ("bf16", "float32"), "what is asked for stays"
    assert getattr(torch, precision.dtype_name()).is_floating_point


def test_a_build_without_onednn_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert precision.multiplies_bf16.__wrapped__("cpu") is False
