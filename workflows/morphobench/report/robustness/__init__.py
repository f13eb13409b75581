"""Section on scores under corruption and noise."""
