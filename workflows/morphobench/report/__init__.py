"""The report: one page of sections, each of which brings its tables, its text and its figures."""
