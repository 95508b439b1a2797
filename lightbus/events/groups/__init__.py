"""Consumer groups at their publisher: who is a member, who has what, and how far each has come."""
