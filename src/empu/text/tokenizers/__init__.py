"""Tokenizers of the three file formats."""
