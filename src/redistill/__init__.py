"""redistill keeps a small student model as good as the large teacher it replaces, night after night.

This package has the typed records, filters, losses, statistics and decisions. It imports neither Prefect nor DVC. The
application around it (``tasks/``, ``flows/``) does.
"""
