"""Bytes <-> values, without state: payload values, the message table, the announcements of peers."""
