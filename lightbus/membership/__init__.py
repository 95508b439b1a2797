"""Membership: the connections to workers, which peers to dial, what a name resolves to, and the connected engines."""
