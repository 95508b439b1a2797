"""What the operating system gives: directories, locks, descriptors, the time of the machine, and who else is on it."""
