"""Events that an event backend keeps: publishing, listening, questions about them, and moving them."""
