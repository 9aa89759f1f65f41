"""Frozen cases of every release, and where they are kept."""
