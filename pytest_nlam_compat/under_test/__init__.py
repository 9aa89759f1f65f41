"""A reference in front of the current code, on both routes."""
