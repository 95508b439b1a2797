"""The parts of `lightbus demo`: two services (a directory each), their observer, their processes, its output."""
