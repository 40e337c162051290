"""``empu keys``: who may ask a server of this store."""

from __future__ import annotations

import click

from empu.cli.output import json_option


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of `empu serve`.

    A key is kept as its hash and shown only when it is made. Its name stands in the server's log. A server that runs
    knows of every change at once.
    """


@keys.command()
@click.argument("name")
@json_option
def add(name: str, as_json: bool) -> None:
    """Make a key called NAME and show it, this once."""
    from empu.cli import output
    from empu.server.http.auth import Keys
    from empu.store.store import Store

    key = Keys(Store.of_user().home).add(name)
    if as_json:
        output.answer({"name": name, "key": key})
        return
    output.say(f"The key {name!r}, shown only now:")
    click.echo(key)


@keys.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the keys' names and when each was made."""
    from empu.cli import output
    from empu.server.http.auth import Keys
    from empu.store.store import Store

    known = Keys(Store.of_user().home).names()
    if as_json:
        output.answer({"keys": [{"name": name, "made_at": made_at} for name, made_at in known.items()]})
    elif not known:
        output.say("There is no key yet; the first start of `empu serve` makes one, and so does: empu keys add NAME")
    else:
        output.table(("NAME", "MADE"), list(known.items()))


@keys.command()
@click.argument("name")
@json_option
def revoke(name: str, as_json: bool) -> None:
    """Forget the key called NAME; whoever has it is let in no more."""
    from empu.cli import output
    from empu.server.http.auth import Keys
    from empu.store.store import Store

    Keys(Store.of_user().home).revoke(name)
    if as_json:
        output.answer({"revoked": name})
    else:
        output.say(f"The key {name!r} is revoked.")
