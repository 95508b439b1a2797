"""What the user declares: Api classes with their procedures and events, the schemas of both, hooks."""
