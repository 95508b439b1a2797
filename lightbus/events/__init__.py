"""An event's way: fired, kept in a journal, published, followed by groups, handled, acknowledged."""
