"""Methods and data sets found in their folders, loaded, hashed, and written from a template."""
