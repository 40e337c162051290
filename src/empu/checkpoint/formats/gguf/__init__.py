"""GGUF: the container, the keys of a config, reading and writing."""
