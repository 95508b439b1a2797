"""The decisions of the bus, without I/O: facts in, facts out, and the time as an argument."""
