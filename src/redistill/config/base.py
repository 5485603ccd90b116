"""The base of every section of ``params.yaml``: frozen, keyword-only dataclasses that reject unknown keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Protocol, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_T = TypeVar("_T")
_STRICT = ConfigDict(extra="forbid")


class Section(Protocol):
    """A part of ``params.yaml`` with a name of its own, so that a stage can load it without the rest."""

    SECTION: ClassVar[str]
    """Its place in the file, as keys with dots. ``{arm}`` stands for the stage's argument of that name."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(cls: type[_T]) -> type[_T]:
    """A frozen pydantic dataclass that rejects unknown keys."""
    return dataclass(frozen=True, config=_STRICT, kw_only=True)(cls)  # type: ignore[return-value]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(name: str) -> Callable[[type[_T]], type[_T]]:
    """Like ``frozen``, for the part of ``params.yaml`` that is called ``name``."""

    def named(cls: type[_T]) -> type[_T]:
        kind = frozen(cls)
        kind.SECTION = name  # type: ignore[attr-defined]
        return kind

    return named


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Whole = Annotated[int, Field(strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Alpha = Annotated[float, Field(gt=0.0, lt=0.25)]
Margin = Annotated[float, Field(gt=0.0, lt=1.0)]
