"""A call's way: from the caller through its channel to the worker that serves it, and back."""
