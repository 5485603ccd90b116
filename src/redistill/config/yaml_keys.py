"""How ``params.yaml`` is read: duplicate keys and dates without quotes are errors that name the line. Plain YAML accepts both."""

from __future__ import annotations

from typing import Any

import yaml

from redistill.errors import ConfigError


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a duplicate key is an error. By default the second value replaces the first without an error."""


def _mapping(loader: UniqueKeys, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise ConfigError(f"params.yaml line {key_node.start_mark.line + 1}: key {key!r} occurs twice; keep one")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


def _date(loader: UniqueKeys, node: yaml.ScalarNode) -> Any:
    raise ConfigError(
        f"params.yaml line {node.start_mark.line + 1}: put the date {node.value} in quotes; DVC reads this file too and does not accept dates without quotes"
    )


UniqueKeys.add_constructor("tag:yaml.org,2002:timestamp", _date)
UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)
