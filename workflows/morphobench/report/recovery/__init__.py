"""Section on operator recovery."""
