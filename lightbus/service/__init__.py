"""The user's declarations: Api classes with their procedures and events, the schemas of both, hooks."""
