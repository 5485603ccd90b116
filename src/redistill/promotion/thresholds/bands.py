"""By how much each score differs between engines and batches, in nats: what ``python -m tests.bench.cascade_engines`` measured (docs/cascade.md).

A score that is not listed was not measured. It gets no threshold until ``route.bands`` gives it a band.
"""

from __future__ import annotations

BANDS = {"label_entropy": 0.05, "mean_logprob": 0.02, "min_logprob": 0.1, "min_margin": 0.15, "sum_logprob": 0.15}
