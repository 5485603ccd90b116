"""Twelve rules that a distillation loss must keep, as small checks that run on a CPU against any implementation."""
