"""Evaluation on held-out rows: systems, metrics with confidence intervals, paired tests and baselines. Never torch."""
