"""Routes of the page: sign-in, conversations, feedback, models and runs."""

from __future__ import annotations

from starlette.routing import Route

from empu.server.ui import conversations, feedback, sign_in, store_views

ROUTES = [
    Route("/api/signin", sign_in.sign_in, methods=["POST"]),
    Route("/api/signout", sign_in.sign_out, methods=["POST"]),
    Route("/api/me", sign_in.me, methods=["GET"]),
    Route("/api/conversations", conversations.list_conversations, methods=["GET"]),
    Route("/api/conversations", conversations.create, methods=["POST"]),
    Route("/api/conversations", conversations.delete, methods=["DELETE"]),
    Route("/api/conversations/{id}", conversations.retrieve, methods=["GET"]),
    Route("/api/conversations/{id}", conversations.update, methods=["PATCH"]),
    Route("/api/conversations/{id}", conversations.delete, methods=["DELETE"]),
    Route("/api/conversations/{id}/export", conversations.export, methods=["GET"]),
    Route("/api/conversations/{id}/answers", conversations.answer, methods=["POST"]),
    Route("/api/conversations/{id}/stop", conversations.stop, methods=["POST"]),
    Route("/api/export", conversations.export, methods=["GET"]),
    Route("/api/messages/{id:int}/feedback", feedback.rate, methods=["PUT"]),
    Route("/api/feedback", feedback.overview, methods=["GET"]),
    Route("/api/feedback/rows/{kind}", feedback.export, methods=["GET"]),
    Route("/api/feedback/save", feedback.save, methods=["POST"]),
    Route("/api/models", store_views.models, methods=["GET"]),
    Route("/api/models/{name}", store_views.model, methods=["GET"]),
    Route("/api/models/{name}/rows", store_views.rows, methods=["GET"]),
    Route("/api/runs", store_views.runs, methods=["GET"]),
]
