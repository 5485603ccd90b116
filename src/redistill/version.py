"""The version of this package. No stage imports this file, so a new version with the same code makes no stage run again."""

from __future__ import annotations

__version__ = "0.1.0"
