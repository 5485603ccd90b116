"""How ``params.yaml`` is read: duplicate keys and dates without quotes are errors that name the line. Plain YAML accepts both.

Aliases (``*name``) are read, but not those that contain themselves or that stand for millions of values: each reader of such a tree would run for ever.
"""

from __future__ import annotations

from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from redistill.errors import ConfigError

_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is installed: with a hundred thousand labels it takes a second, and the other a minute."""


class UniqueKeys(_FAST):
    """YAML in which a duplicate key is an error. By default the second value replaces the first without an error."""


_MOST_LEVELS = 50
MOST_VALUES = 2_000_000
"""Values of a file with its aliases written out: ten times the largest list of labels that makes sense."""


def load(text: str, name: str) -> Any:
    """The tree of a YAML text. ``name`` is what errors call its file.

    Raises:
        ConfigError: a duplicate key, a date without quotes, aliases without end, values that are nested too deeply, or text that DVC's parser refuses.
    """
    _check_depth(text, name)
    _check_dvc_reads_it(text, name)
    loader = UniqueKeys(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if (values := _values_of(node, {})) > MOST_VALUES:
            raise ConfigError(
                f"{name}: its aliases stand for {float(values):.0e} values, and the limit is {MOST_VALUES:,}; write lists out, or use fewer aliases"
            )
        return loader.construct_document(node)
    except RecursionError:
        raise ConfigError(f"{name}: an alias contains itself; write the values out") from None
    finally:
        loader.dispose()


def _check_depth(text: str, name: str) -> None:
    """Before a tree is made: libyaml makes it with a call for each level, and a stack that is used up ends the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_FAST):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_LEVELS and event.start_mark is not None:
            raise ConfigError(
                f"{name} line {event.start_mark.line + 1}: values are nested too deeply; the limit is {_MOST_LEVELS} levels, and no section needs ten"
            )


def _check_dvc_reads_it(text: str, name: str) -> None:
    """DVC reads this file with another parser, which refuses some text that ours reads, such as ``{model: package:name}``. A cycle would end there."""
    try:
        for _ in YAML(typ="safe").parse(text):
            pass
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f" line {mark.line + 1}"
        raise ConfigError(
            f'{name}{line}: DVC reads this file too and cannot parse it here ({error.problem}); put the value in quotes, as in {{model: "package:name"}}'
        ) from None


def _values_of(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node has with its aliases written out. Each node is counted once."""
    if id(node) not in known:
        children = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
        # An alias that contains itself ends in a RecursionError.
        known[id(node)] = 1 if isinstance(node, yaml.ScalarNode) else 1 + sum(_values_of(child, known) for child in children)
    return known[id(node)]


def _mapping(loader: UniqueKeys, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise ConfigError(f"params.yaml line {key_node.start_mark.line + 1}: key {key!r} occurs twice; keep one")
        seen.add(key)
    return yaml.constructor.SafeConstructor.construct_mapping(loader, node, deep)


def _date(loader: UniqueKeys, node: yaml.ScalarNode) -> Any:
    raise ConfigError(
        f"params.yaml line {node.start_mark.line + 1}: put the date {node.value} in quotes; DVC reads this file too and does not accept dates without quotes"
    )


UniqueKeys.add_constructor("tag:yaml.org,2002:timestamp", _date)
UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)
