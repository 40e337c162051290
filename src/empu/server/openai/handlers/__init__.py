"""Handlers of OpenAI's interfaces."""
