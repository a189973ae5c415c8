"""The artifact store: content-addressed, immutable versions, in a folder (`file://` or a path) or in S3 (`s3://`).

A version is a folder of files under `<kind>/<digest>/`; its `manifest.json` is written last, so a half-written version
can never be read. Beside versions the store keeps small objects: the ledger's records, the chunks of unfinished work,
and the runs' signs of life. Both stores do the same; what differs is how bytes move.
"""

from components.shared.store.base import Entry, Store
from components.shared.store.folder import FolderStore
from components.shared.store.manifest import MANIFEST, StoreError, content_digest, describe
from components.shared.store.opening import open_store
from components.shared.store.settings import StoreSettings

__all__ = [
    "MANIFEST",
    "Entry",
    "FolderStore",
    "Store",
    "StoreError",
    "StoreSettings",
    "content_digest",
    "describe",
    "open_store",
]
