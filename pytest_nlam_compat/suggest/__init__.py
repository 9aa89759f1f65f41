"""Search for a migration, prove it on the references, and write it."""
