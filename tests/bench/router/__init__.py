"""Benchmarks of the router: which server and client it is built on, and what it adds to a request."""
