"""Anthropic's interface: messages and token counting."""
