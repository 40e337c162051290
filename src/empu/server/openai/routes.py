"""Routes of OpenAI's interface."""

from __future__ import annotations

from starlette.routing import Route

from empu.server.openai.handlers.chat import chat_completions
from empu.server.openai.handlers.completions import completions
from empu.server.openai.handlers.embeddings import embeddings
from empu.server.openai.handlers.models import list_models, retrieve_model
from empu.server.openai.handlers.responses import delete_response, responses, retrieve_response

ROUTES = [
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", retrieve_model, methods=["GET"]),
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/responses", responses, methods=["POST"]),
    Route("/v1/responses/{id}", retrieve_response, methods=["GET"]),
    Route("/v1/responses/{id}", delete_response, methods=["DELETE"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
]
