"""Events that an event backend keeps, beside those of the journals; and what is fired together, wherever it is kept."""
