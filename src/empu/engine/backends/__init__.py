"""Backends compute logits from token ids. All keep the contract in ``protocol.py``."""
