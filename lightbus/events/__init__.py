"""The path of an event: fired, stored in a journal, published, consumed by groups, handled, acknowledged."""
