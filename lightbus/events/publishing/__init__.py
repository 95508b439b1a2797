"""Publishing events: fired, stored in a journal, published; and the hand-off for processes that do not publish."""
