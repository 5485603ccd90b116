"""By how much each score differs between engines and batches, in nats: the 99th percentiles that ``python -m tests.bench.cascade_engines`` measured, rounded up
(docs/cascade.md).

A score that is not listed was not measured. It gets no threshold until ``route.bands`` gives it a band.
"""

from __future__ import annotations

BANDS = {"label_entropy": 0.12, "mean_logprob": 0.035, "min_logprob": 0.12, "min_margin": 0.25, "sum_logprob": 0.16}
