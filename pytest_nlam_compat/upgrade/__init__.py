"""Inspect, convert and stamp checkpoint files."""
