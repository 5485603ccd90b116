"""The report's templates: they escape everything, and a missing value is shown as nothing instead of ending a cycle."""

from __future__ import annotations

import functools

from jinja2 import ChainableUndefined, Environment, PackageLoader

from redistill.report import formats


@functools.cache
def environment() -> Environment:
    """Made once a process, because compiling a template takes longer than a page."""
    made = Environment(
        loader=PackageLoader("redistill", "report"), autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update({f.__name__: f for f in formats.FILTERS})
    return made
