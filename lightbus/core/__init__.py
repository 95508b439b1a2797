"""What the bus decides, without I/O: facts in, facts out, and the time as an argument."""
