"""Consumer groups at their publisher: their members, their assignments, and their positions."""
