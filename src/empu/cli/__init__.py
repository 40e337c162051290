"""The ``empu`` command: each command parses, says what it will do, calls one library function and prints."""
