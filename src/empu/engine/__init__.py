"""The inference engine: backends, scheduler, sampling, structured output. Tokens in, generated text out."""
