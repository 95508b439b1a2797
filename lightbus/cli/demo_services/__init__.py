"""What `lightbus demo` consists of: two services (a directory each), their observer, their processes, its lines."""
