"""Scores that can be believed: held-out rows, intervals, paired tests, and baselines that are allowed to win."""
