"""``empu pull``: add a model to the store from a package, a path or a model hub."""
