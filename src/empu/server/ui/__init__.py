"""The API of the web page, and its files."""
