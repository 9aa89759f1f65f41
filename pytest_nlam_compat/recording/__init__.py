"""Record the references of a release, with that release installed."""
