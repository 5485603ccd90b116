"""How sure a student is of a completion: one score a file, each a number that is larger where the student is surer.

A new score is a new file here with a function ``score``; ``redistill.evaluation.confidence.all_scores`` imports it. All tokens of a completion count, with
its separators and its end: that is where a model decides whether another label, flag or value follows (docs/adr/0032-which-tokens-count.md).
"""
