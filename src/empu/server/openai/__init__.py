"""OpenAI's interfaces: chat completions, completions, responses, embeddings."""
