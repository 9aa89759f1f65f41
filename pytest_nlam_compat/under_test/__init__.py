"""The two ways from a saved file to outputs of the current code."""
