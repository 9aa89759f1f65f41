"""Precision, tolerances and comparison."""
