"""The gates that a student must pass before promotion: one idea per file, without side effects.

A gate takes the evidence and its limits, and returns pass, hold or fail with value, limit, interval and a sentence. ``promote.gates``
lists the gates that apply; ``redistill.promotion.decide`` evaluates them in that order.
"""
