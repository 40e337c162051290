"""What every interface of the server shares: middlewares, request bodies, sessions, event streams."""
