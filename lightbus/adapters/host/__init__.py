"""What the operating system gives: directories, locks, descriptors, addresses, time, and who else is on it."""
