"""One per process: the node on its loop, what a worker binds, and what every worker answers about itself."""
