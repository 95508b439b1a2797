"""Who is there: the connections to workers, whom to dial, what a name resolves to, and who is connected to us."""
