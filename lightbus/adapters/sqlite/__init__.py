"""Kept events on disk: journals, their groups and dead letters, and the outbox of a host, in SQLite."""
