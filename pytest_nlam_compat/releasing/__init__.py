"""Adding a release of neural-lam: all that its references need, at once."""
