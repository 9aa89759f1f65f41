"""How models of the current code are built, loaded and run."""
