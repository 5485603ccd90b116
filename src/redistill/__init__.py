"""redistill keeps a small student model as good as the large teacher it replaces, night after night.

This package says what things mean: typed records, filters, losses, statistics, decisions. It imports neither
Prefect nor DVC; the application around it (``tasks/``, ``flows/``) does.
"""
