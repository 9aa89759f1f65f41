"""Any file of a user: opened, named or refused, and written whole."""
