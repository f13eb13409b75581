"""A run: its resolved configuration, what will run, and the processes it runs in."""
