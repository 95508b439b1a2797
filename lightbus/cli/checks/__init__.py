"""What `lightbus doctor` looks at: a check is a function of a `CheckContext` that yields findings."""
