"""Events that an event backend stores, and batches of events, wherever they are stored."""
