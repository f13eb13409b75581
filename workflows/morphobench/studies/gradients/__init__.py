"""The study of gradient accuracy."""
