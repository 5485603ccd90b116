"""YAML as ``params.yaml`` is read: what YAML would accept in silence, but nobody means, is an error that names its line."""

from __future__ import annotations

from typing import Any

import yaml

from redistill.errors import ConfigError


class UniqueKeys(yaml.SafeLoader):
    """YAML where a key written twice is an error, not a silent overwrite."""


def _mapping(loader: UniqueKeys, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise ConfigError(f"params.yaml line {key_node.start_mark.line + 1}: key {key!r} stands twice; keep one")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


def _date(loader: UniqueKeys, node: yaml.ScalarNode) -> Any:
    raise ConfigError(
        f"params.yaml line {node.start_mark.line + 1}: put the date {node.value} in quotes; DVC reads this file too and refuses bare dates"
    )


UniqueKeys.add_constructor("tag:yaml.org,2002:timestamp", _date)
UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)
