"""A checkpoint file as an object, read and written without its pickle."""
