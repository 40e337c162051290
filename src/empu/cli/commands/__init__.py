"""One command a file; the function has the name of its module."""
