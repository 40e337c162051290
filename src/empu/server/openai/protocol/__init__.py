"""Request types of OpenAI's interfaces, property by property."""
