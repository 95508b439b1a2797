"""
The only sockets, files and multicast of the bus. Each module is a small interface with what is real behind it.

Nothing is imported here: a process loads what it uses, and a caller in mode host needs neither zeroconf nor SQLite.
"""
