"""The ports: protocols for what the bus needs of a network and of a store, independent of the implementation."""
