"""File formats of checkpoints: GGUF, Hugging Face folders, Meta folders, and the containers inside them."""
