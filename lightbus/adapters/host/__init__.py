"""The operating system: directories, locks, descriptors, addresses, time, and other peers on this host."""
