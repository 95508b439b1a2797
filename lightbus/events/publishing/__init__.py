"""Publishing: events are stored in a journal and published; also for other processes, which hand them off."""
