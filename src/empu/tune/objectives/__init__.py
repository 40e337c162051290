"""Objectives: what a training step minimises. A new one is a file here and a line in ``select.py``."""
