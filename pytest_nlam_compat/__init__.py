"""Checks that neural-lam checkpoints of every release keep their meaning."""

__version__ = "0.1.0"
