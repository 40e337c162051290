"""The store: models on this machine, named by people, identified by their content, brought in by ``empu pull``."""
