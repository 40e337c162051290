"""``empu keys``: API keys of the server."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.group()
def keys() -> None:
    """Create, list and revoke the API keys of `empu serve`.

    Only a hash of each key is stored; a key is shown once, when it is created. Its name appears in the server's log.
    A running server applies changes at once.
    """


@keys.command()
@click.argument("name")
@json_option
def add(name: str, as_json: bool) -> None:
    """Create a key called NAME and show it once."""
    from empu.cli import output
    from empu.server.http.api_keys import ApiKeys
    from empu.store.store import Store

    key = ApiKeys(Store.of_user().home).add(name)
    if as_json:
        output.print_json({"name": name, "key": key})
        return
    output.message(f"Key {name!r}, shown only once:")
    click.echo(key)


@keys.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the names of the keys, when each was created, and when it was last used."""
    from empu.cli import output
    from empu.server.http.api_keys import ApiKeys
    from empu.store.store import Store

    keys = ApiKeys(Store.of_user().home)
    known, used = keys.names(), keys.last_uses()
    if as_json:
        documents = [
            {"name": name, "made_at": made_at, "last_used_at": used.get(name)} for name, made_at in known.items()
        ]
        output.print_json({"keys": documents})
    elif not known:
        output.message("There is no key yet; `empu serve` creates one at its first start, or use: empu keys add NAME")
    else:
        rows = [(name, made_at, used.get(name, "never")) for name, made_at in known.items()]
        output.table(("NAME", "CREATED", "LAST USED"), rows)


@keys.command()
@click.argument("name")
@json_option
def revoke(name: str, as_json: bool) -> None:
    """Delete the key called NAME; it stops working at once."""
    from empu.cli import output
    from empu.server.http.api_keys import ApiKeys
    from empu.store.store import Store

    ApiKeys(Store.of_user().home).revoke(name)
    if as_json:
        output.print_json({"revoked": name})
    else:
        output.message(f"Key {name!r} is revoked.")
