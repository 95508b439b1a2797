"""Code shared by the subcommands."""
