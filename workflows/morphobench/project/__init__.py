"""The checkout: its paths, its files, where a result comes from."""
