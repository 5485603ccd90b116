"""Twelve rules of correct distillation. Each is a small check on a CPU that works for any implementation."""
