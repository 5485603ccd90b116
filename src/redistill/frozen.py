"""What every slice of ``params.yaml`` is made of: frozen, keyword-only, and deaf to keys it does not know."""

from __future__ import annotations

from typing import Annotated, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_T = TypeVar("_T")
_STRICT = ConfigDict(extra="forbid")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(cls: type[_T]) -> type[_T]:
    """A frozen pydantic dataclass that refuses unknown keys."""
    return dataclass(frozen=True, config=_STRICT, kw_only=True)(cls)  # type: ignore[return-value]


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Whole = Annotated[int, Field(strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Alpha = Annotated[float, Field(gt=0.0, lt=0.25)]
Margin = Annotated[float, Field(gt=0.0, lt=1.0)]
