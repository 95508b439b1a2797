"""A network within one process, for tests and the memory bus: the contract of the real one, without a socket."""
