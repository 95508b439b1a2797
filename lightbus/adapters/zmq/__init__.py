"""Sockets: ZeroMQ behind a small interface, with the security modes and the gate in front of bound sockets."""
