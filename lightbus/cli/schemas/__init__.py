"""Schemas of APIs, for commands: gathered, compared, and written as what type checkers read."""
