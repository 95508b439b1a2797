"""The implementations of the ports: sockets, multicast, files. One package for each library or system interface."""
