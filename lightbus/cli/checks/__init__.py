"""The checks of `lightbus doctor`: a check is a function of a `CheckContext` that yields findings."""
