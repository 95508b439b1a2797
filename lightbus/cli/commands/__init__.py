"""The subcommands of `lightbus`: one file per command."""
