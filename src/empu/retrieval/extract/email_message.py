"""E-mail messages (RFC 5322): headers, the plain text or else the HTML body; attachments are named, not read."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

from empu.retrieval.extract.document import Block, DocumentError
from empu.retrieval.extract.html import read_html
from empu.retrieval.extract.plain_text import read_plain_text


def read_email(path: Path) -> tuple[str | None, Iterator[Block], list[str]]:
    """Return subject, blocks and warnings of a message."""
    try:
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        subject = str(message.get("Subject") or "").strip() or None
        headers = [f"{name}: {message[name]}" for name in ("From", "To", "Cc", "Date", "Subject") if message[name]]
        body = message.get_body(preferencelist=("plain", "html"))
        content = str(body.get_content()) if body is not None else ""
        attached = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    except Exception as error:  # the email package raises errors of many kinds for damaged messages
        raise DocumentError(f"the e-mail message is damaged ({type(error).__name__})") from None
    is_html = body is not None and body.get_content_type() == "text/html"

    def blocks() -> Iterator[Block]:
        yield Block("paragraph", "\n".join(headers))
        yield from read_html(content)[1] if is_html else read_plain_text(content)

    return subject, blocks(), [f"attachment {name!r} not read; add it as a file" for name in attached]
