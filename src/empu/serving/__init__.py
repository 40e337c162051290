"""From requests to answers for any channel: model registry, chat service, tools, structured output. Never Starlette."""
