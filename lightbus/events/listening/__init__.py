"""The path of an event to a listener: from its publisher to the call of the handler, and the acknowledgement."""
