"""Drift: does a window of live traffic differ from the rows that models are judged on? Measures, their ranges by chance, and a verdict that does not flicker."""
