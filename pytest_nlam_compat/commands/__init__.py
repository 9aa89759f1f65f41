"""The subcommands of nlam-compat, one a module."""
