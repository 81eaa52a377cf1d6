"""The store of artifacts on disk: what is in it, how it gets in, and how it gets out."""

from mercato_server.store.artifacts import Store
from mercato_server.store.keys import artifact_key, tree_hash

__all__ = ["Store", "artifact_key", "tree_hash"]
