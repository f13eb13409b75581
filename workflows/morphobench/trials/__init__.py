"""A trial: what identifies it, where it is kept, its record, and the processes that run it."""
