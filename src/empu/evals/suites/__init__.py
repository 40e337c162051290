"""Benchmark suites: one file for each, over a common base. The data come from files of the user."""
