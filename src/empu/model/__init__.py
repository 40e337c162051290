"""The reference transformer in PyTorch. It is trained, runs on GPUs, and is the oracle of the native engine."""
