"""What commands about protected things share: the vault, and the local operator's act once the table of permissions let it be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attunement.config import load_settings

if TYPE_CHECKING:
    from attunement.security.acting import Act
    from attunement.security.vault import Vault


@contextmanager
def acting(
    action: str, recipe: Path | None, overrides: list[str] | None, client: str | None = None
) -> Iterator[tuple[Vault, Act]]:
    """The open vault and who acts. Raises `AccessError` where the table refuses, which is recorded."""
    from attunement.cli.tables import know_all
    from attunement.security.codes import valid_id
    from attunement.security.entry import operator_act
    from attunement.security.vault import Vault

    if client is not None:
        valid_id("client", client)
    know_all()
    with Vault.open(load_settings(recipe, overrides or ()).settings) as vault:
        yield vault, operator_act(vault.audit, action, client)
