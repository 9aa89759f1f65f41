"""Explain why a reference fails."""
