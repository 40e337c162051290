"""The reference transformer in PyTorch: what is trained, what runs on GPUs, and what the native engine is held
against.
"""
