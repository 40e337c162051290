"""Host names and origins under which the server may be used."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from empu.errors import UsageError
from empu.server.http.api_keys import ApiKeys


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_bind(host: str, keys: ApiKeys) -> None:
    """Raise :class:`UsageError` if other machines could reach ``host`` while there is no key."""
    if not is_loopback(host) and not len(keys):
        raise UsageError(
            f"Other machines can reach {host}, and there is no key yet; start `empu serve` once without --host, which "
            "creates one."
        )


def allowed_hosts(host: str, port: int, names: Iterable[str] = ()) -> frozenset[str]:
    """Return the exact ``Host`` headers of this server: loopback, the bound address and ``names``.

    ``names`` may be those of a proxy: each is allowed with this port and without one, or as ``HOST:PORT`` with its own.
    """
    lower = {name.lower() for name in names}
    with_port = {name for name in lower if re.fullmatch(r"(\[[^\]]+\]|[^:]+):\d+", name)}
    without_port = {_bracket_ipv6(name) for name in lower - with_port}
    hosts = {"127.0.0.1", "localhost", "::1"}
    try:
        if not ipaddress.ip_address(host).is_unspecified:
            hosts.add(host)
    except ValueError:
        hosts.add(host)
    own = {_bracket_ipv6(name.lower()) for name in hosts}
    on_port = {f"{name}:{port}" for name in own | without_port}
    return frozenset(on_port | (own if port == 80 else set()) | without_port | with_port)


def is_own_origin(origin: str, hosts: frozenset[str]) -> bool:
    """Return whether a page of this server sent the request. ``null`` and every other origin did not."""
    scheme, separator, host = origin.partition("://")
    return bool(separator) and scheme in {"http", "https"} and host.lower() in hosts


def _bracket_ipv6(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
