"""What `lightbus doctor` looks at: a check is a function of an `Examination` that yields findings."""
