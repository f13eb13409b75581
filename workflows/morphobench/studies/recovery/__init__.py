"""The study of operator recovery."""
