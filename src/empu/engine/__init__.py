"""From an opened checkpoint to generated text: backends, sampling, generation."""
