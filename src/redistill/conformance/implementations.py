"""The implementations that can be tested, by name. Each is created only when it is needed, because its package may not be installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from redistill.conformance.protocol import Finding, Implementation
from redistill.conformance.rules import run_rules
from redistill.errors import ConfigError

DENSE = ("forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl")


def _ours(name: str) -> Implementation:
    from redistill.conformance.redistill_losses import Dense, Sparse

    return Sparse() if name == "redistill" else Dense(name.removeprefix("redistill-"))  # type: ignore[arg-type]


def _peer(name: str) -> Implementation:
    from redistill.conformance import peers

    kinds: dict[str, Callable[[], Implementation]] = {p.name: p for p in (peers.KlDiv, peers.TrlGkd, peers.TrlDistillation, peers.Liger)}
    return kinds[name]()


KNOWN: dict[str, tuple[Callable[[str], Implementation], str]] = {
    "redistill": (_ours, "torch"),
    **{f"redistill-{divergence}": (_ours, "torch") for divergence in DENSE},
    "torch-kl_div": (_peer, "torch"),
    "trl-gkd": (_peer, "trl"),
    "trl-distillation": (_peer, "trl"),
    "liger-jsd": (_peer, "liger_kernel"),
}
"""Name → the function that creates it, and the package that it needs."""


def conformance(requested: str | None) -> dict[str, tuple[str, dict[str, Finding]]]:
    """Version and findings of one implementation, or of all whose packages are installed.

    Raises:
        ConfigError: no such implementation, or its package is not installed.
    """
    if requested is not None and requested not in KNOWN:
        raise ConfigError(f"--impl {requested}: unknown; the implementations are {', '.join(KNOWN)}")
    results = {}
    for name in [requested] if requested else KNOWN:
        make, package = KNOWN[name]
        if importlib.util.find_spec(package) is None:
            if requested:
                raise ConfigError(f"--impl {name}: package {package} is not installed; pip install {package}")
            continue
        implementation = make(name)
        results[name] = (implementation.version, run_rules(implementation))
    return results
