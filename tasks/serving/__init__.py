"""Serving: which version may answer, its server, and the router before both models."""
