"""From calibration rows to a threshold: how many of the surest rows a student may answer. One rule a file.

A rule takes the losses of N rows in the order of their scores, the surest first, and returns how many rows may be answered. Rows with equal scores stay
together, so only some numbers are possible: ``cuts``.
"""
