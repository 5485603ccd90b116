"""Records as a tag of MLflow holds them."""

from __future__ import annotations

import json


def tag_text(tree: object) -> str:
    """JSON with letters as they are, because a tag holds a certain number of letters; ``é`` as an escape would be six.

    Bytes of a command line that are no text (lone surrogates) become question marks: a database refuses them.
    """
    return json.dumps(tree, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")
