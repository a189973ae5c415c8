"""Which run made a version, from what; and the deletion of versions that nothing needs any more."""

from components.shared.lineage.collect import Collection, Rules, collect, plan_collection
from components.shared.lineage.graph import Lineage, find_version, read_lineage

__all__ = ["Collection", "Lineage", "Rules", "collect", "find_version", "plan_collection", "read_lineage"]
