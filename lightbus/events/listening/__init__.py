"""The way of an event in: from the publishers it is followed at to the call of a listener, and the acknowledgement."""
