"""Schemas of APIs, for commands: collected, compared, and converted to types for type checkers."""
