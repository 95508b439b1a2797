"""The way of an event out: fired, stored in a journal, published; and the hand-off for who does not publish."""
