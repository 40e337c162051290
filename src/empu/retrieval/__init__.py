"""Documents: extract text, split it into passages, index and search them, and cite what was found."""
