"""Verdicts for people and machines; no torch here."""
