"""Hugging Face folders: config.json beside safetensors; reading and writing."""
