"""By how much each score differs between engines and batches, in nats: what ``python -m tests.bench.cascade_engines`` measured (docs/cascade.md).

A score that is not listed was not measured. It gets no threshold until ``route.bands`` gives it a band.
"""

from __future__ import annotations

BANDS = {"label_entropy": 0.15, "mean_logprob": 0.06, "min_logprob": 0.2, "min_margin": 0.5, "sum_logprob": 0.3}
