"""Frozen cases of every release, their archives, and where to find these."""
