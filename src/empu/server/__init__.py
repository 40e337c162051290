"""The HTTP server: the interfaces that existing programs speak, and a page to chat on."""
