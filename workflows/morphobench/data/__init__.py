"""Data sets: fetched, checked, drawn into splits, kept, and read back."""
