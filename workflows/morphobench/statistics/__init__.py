"""Comparisons of methods: tables, intervals, tests, ranks."""
