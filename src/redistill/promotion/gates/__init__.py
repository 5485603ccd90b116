"""The gates between a student and its promotion: one idea a file, all pure.

A gate takes the evidence and its own limits, and gives pass, hold or fail with value, limit, interval and a sentence. Which apply stands in
``promote.gates``; ``redistill.promotion.decide`` asks them in that order.
"""
