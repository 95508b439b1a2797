"""Bytes <-> values, without state: payload values, the message table, what a peer announces of itself."""
