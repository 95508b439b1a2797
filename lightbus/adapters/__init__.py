"""What is behind the ports: sockets, multicast, files. A package for each library, or part of the system, it needs."""
