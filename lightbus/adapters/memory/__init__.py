"""A network within one process, for tests and the bus in memory: the promises of the real one, without a socket."""
