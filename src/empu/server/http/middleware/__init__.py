"""ASGI middlewares. Each does one thing; ``empu.server.app`` puts them in order."""
