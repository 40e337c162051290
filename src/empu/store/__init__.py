"""The store: models on this machine, identified by content and found by name; ``empu pull`` adds them."""
