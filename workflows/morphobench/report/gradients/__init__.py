"""Section on gradient accuracy."""
