"""Request bodies of the web chat's own API (``/api/…``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from empu.engine.sampling import SamplingParams
from empu.server.http.request_model import StrictModel
from empu.server.openai.protocol.sampling import SamplingRequest

MAX_MESSAGE_LENGTH = 400_000
"""Characters of one message."""

ModelName = Annotated[str, Field(min_length=1, max_length=256)]


class SignIn(StrictModel):
    """``POST /api/signin``: the one-time code of the sign-in link, or a key."""

    code: str = Field(min_length=1, max_length=200)


class ChatSettings(StrictModel):
    """Sampling of a conversation. ``system`` is the system prompt; empty: the model's own."""

    system: str = Field(default="", max_length=MAX_MESSAGE_LENGTH)
    temperature: float = Field(default=0.5, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    repetition_penalty: float = Field(default=1.1, gt=0, le=10)
    max_tokens: int = Field(default=1024, ge=1, le=1 << 30)
    seed: int | None = Field(default=None, ge=0, lt=1 << 53)

    def sampling_params(self, *, logprobs: int | None) -> SamplingParams:
        """Return the engine's sampling parameters."""
        sampling = self.model_dump(exclude={"system", "max_tokens"})
        return SamplingRequest(model="-", **sampling).sampling_params(max_tokens=self.max_tokens, logprobs=logprobs)


class CreateConversation(StrictModel):
    """``POST /api/conversations``."""

    model: ModelName
    title: str = Field(default="", max_length=200)
    settings: ChatSettings = Field(default_factory=ChatSettings)


class UpdateConversation(StrictModel):
    """``PATCH /api/conversations/{id}``."""

    model: ModelName | None = None
    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    settings: ChatSettings | None = None
    leaf: int | None = None


class AskQuestion(StrictModel):
    """``POST /api/conversations/{id}/answers``.

    Adds the question ``content`` after the message ``parent``; without content, answers the question ``parent`` again.
    """

    parent: int | None = None
    content: Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE_LENGTH)] | None = None


class Rating(StrictModel):
    """``PUT /api/messages/{id}/feedback``; both null: removes the feedback."""

    verdict: Literal["up", "down"] | None = None
    correction: Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE_LENGTH, pattern=r"\S")] | None = None


class SaveRows(StrictModel):
    """``POST /api/feedback/save``."""

    kind: Literal["labels", "messages", "preferences"]
