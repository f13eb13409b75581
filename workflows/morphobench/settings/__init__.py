"""Typed models of every file that a person writes or reads."""
