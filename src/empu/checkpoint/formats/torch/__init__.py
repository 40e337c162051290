"""Files of torch.save, read without a general unpickler."""
