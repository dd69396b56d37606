"""What the settings say, opened: the store, the master key, the ring of data keys, the field cipher, the audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attunement.config import Settings
from attunement.errors import ConfigError, UserError
from attunement.security import checkpoints, keys
from attunement.security.audit import AuditLog, Entry
from attunement.security.checkpoints import Checkpoints
from attunement.security.clock import Clock, utc_now
from attunement.security.escrow import write_escrow
from attunement.security.fields import FieldCipher
from attunement.security.holds import lock, refuse_held
from attunement.security.keys import KeyRing, key_tables
from attunement.security.master_key import EnvironmentMasterKey, FileMasterKey, MasterKey
from attunement.storage.addresses import checked
from attunement.storage.postgres import Limits
from attunement.storage.sql import Store

MASTER_FILE = "master.key"


def master_path(settings: Settings) -> Path:
    """Where the master key's file is."""
    return (settings.security.master_key or settings.home / MASTER_FILE).expanduser()


def open_master(settings: Settings) -> MasterKey:
    """The master key that is set. Raises `ConfigError` when there is none."""
    if variable := settings.security.master_key_variable:
        return EnvironmentMasterKey(variable)
    return FileMasterKey(master_path(settings))


def open_store(settings: Settings, *, behind: bool = False) -> Store:
    """The store of the data, with its read replica where one is set. Raises `ConfigError` for a replica without TLS elsewhere."""
    url, stores = settings.security.store, settings.stores
    if not url:
        return Store.at_home(settings.home, behind=behind)
    replica = stores.read_replica
    if replica:
        checked("stores.read_replica", replica, ("postgresql", "postgresql+psycopg"), allow_plain=stores.allow_plain)
    return Store(url, limits=Limits.of(stores), replica=replica, behind=behind)


def open_ring(settings: Settings, *, clock: Clock = utc_now) -> KeyRing:
    """The data keys, in a store of their own. Raises `ConfigError` when that is the store of the data."""
    security = settings.security
    if security.key_store and security.key_store == security.store:
        raise ConfigError(
            "security.key_store is the store of the data: each backup would hold the keys, and shredding would be none"
        )
    master = open_master(settings)  # before a file is made for what it wraps
    at_home = not security.key_store
    store = (
        Store.at_home(settings.home, keys.FILE, key_tables)
        if at_home
        else Store(security.key_store, key_tables, limits=Limits.of(settings.stores))
    )
    return KeyRing(store, master, cached_keys=security.key_cache, cached_seconds=security.key_cache_seconds, clock=clock)


@dataclass(frozen=True)
class Vault:
    """Everything that protects the store, by one set of settings."""

    settings: Settings
    store: Store
    ring: KeyRing
    cipher: FieldCipher
    audit: AuditLog

    @classmethod
    def open(cls, settings: Settings, *, clock: Clock = utc_now, behind: bool = False) -> Vault:
        """Raises `ConfigError` without a master key, `DataError` where a store cannot be used.

        `behind` takes a store whose tables must be changed first, as it is: for its backup.
        """
        ring, store, security = open_ring(settings, clock=clock), open_store(settings, behind=behind), settings.security
        points = Checkpoints(
            (security.audit_checkpoints or settings.home / checkpoints.FILE).expanduser(),
            ring,
            every_records=security.audit_checkpoint_records,
            every_seconds=security.audit_checkpoint_seconds,
        )
        return cls(settings, store, ring, FieldCipher(ring), AuditLog(store, points, clock=clock))

    def shred(self, client: str, *, actor: str, request: str = "-") -> bool:
        """Destroys the client's key, with its record, and writes the escrow anew; `KeyRing.shred` says what it returns.

        Raises `DataError` under a legal hold, and when the key is gone but the escrow could not be written: it is to be deleted
        by hand.
        """
        with self.audit.begin() as connection:
            lock(connection)
            refuse_held(connection, client)
            self.audit.append(connection, Entry(actor, "keys:shred", client, request=request))
            gone = self.ring.shred(client)
        self.write_escrow()
        return gone

    def rotate(self, *, actor: str, request: str = "-", progress: Callable[[int, int], None] = lambda done, total: None) -> int:
        """Wraps all data keys by a new master key, while others go on; returns how many. Stopped anywhere, it goes on there.

        With the key in a file all is done here; with one in a variable put the new key before the old one, and take the old
        one away afterwards.
        """
        master = self.ring.master
        if isinstance(master, FileMasterKey):
            master.add()
        count = self.ring.rotate(progress=progress)
        self.write_escrow()
        with self.audit.begin() as connection:
            self.audit.append(connection, Entry(actor, "keys:rotate", request=request))
        if isinstance(master, FileMasterKey):
            master.drop_former()
        return count

    def write_escrow(self) -> int:
        """Writes the escrow where one is set; returns how many keys are in it."""
        path = self.settings.security.escrow
        if path is None:
            return 0
        try:
            return write_escrow(self.ring, path.expanduser())
        except OSError as error:
            raise UserError(
                f"the escrow {path} could not be written and holds old keys: delete it by hand ({error.strerror})"
            ) from error

    def close(self) -> None:
        """Signs a checkpoint over what was recorded since the last, and lets go of the stores."""
        if self.audit.checkpoints is not None and self.audit.checkpoints.pending:
            self.audit.checkpoint()
        self.store.close()
        self.ring.store.close()

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
