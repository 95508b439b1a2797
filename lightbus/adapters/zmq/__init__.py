"""Sockets: ZeroMQ behind a small interface, with the modes of security and the gate in front of what is bound."""
