"""Chat templates: Jinja templates and the formats of Meta."""
