"""Access to a Snapshot that never takes *not read* for *nothing there*."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from meshgate.semantics import nodes
from meshgate.semantics.meshes import OwnMesh, own_mesh
from meshgate.semantics.workloads import is_active, uses_ambient
from meshgate.snapshot.items import AMBIENT, ITEMS, KINDS, Items
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.model import Expectations, Gap, Snapshot
from meshgate.verdict import CouldNotVerify, Finding

Facts = TypeVar("Facts")

# Every item is an attribute with its own type (snapshot/items.py).  They are looked up when they
# are used, so that a missing one raises.
if TYPE_CHECKING:
    _Typed = Items
else:
    _Typed = object


class Evidence(_Typed):  # type: ignore[misc] # frozen, as far as mypy knows
    """The items of a Snapshot; an item that was not read in full raises CouldNotVerify."""

    if not TYPE_CHECKING:

        def __getattr__(self, item: str) -> Any:
            if item not in ITEMS:
                raise AttributeError(item)
            self.need(item)
            found = getattr(self.snapshot, item)
            if found is None or (item not in self.snapshot.read and item not in self._gaps):
                raise CouldNotVerify(f"this snapshot has no {_words(item)}", "capture it again")
            return self._on_live_nodes if item == "pods" and self.lost_nodes else found

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._gaps: dict[str, Gap] = {gap.item: gap for gap in snapshot.gaps}
        self._facts: dict[Callable[[Evidence], Any], Any] = {}

    def facts(self, kind: "Callable[[Evidence], Facts]") -> Facts:
        """Return the facts of this class about the evidence: one object for all that use it."""
        if kind not in self._facts:
            self._facts[kind] = kind(self)
        return self._facts[kind]  # type: ignore[no-any-return]

    @property
    def expectations(self) -> Expectations:
        """What the run was started with."""
        return self.snapshot.expectations

    @cached_property
    def own_mesh(self) -> OwnMesh:
        """The mesh of the istiod namespace: its configuration, and what belongs to it."""
        return own_mesh(self, self.expectations.istio_namespace)

    @cached_property
    def lost_nodes(self) -> frozenset[str]:
        """The nodes whose kubelet does not report; none if no check of this run reads nodes."""
        return nodes.lost(self.snapshot.nodes)

    @cached_property
    def _on_live_nodes(self) -> tuple[Pod, ...]:
        """The pods without those on lost nodes, which keep the status that they had."""
        return tuple(
            each for each in self.snapshot.pods if each.spec.node_name not in self.lost_nodes
        )

    def on_lost_nodes(self) -> list[Pod]:
        """Return the pods on lost nodes that are not terminating; raises as the item nodes does."""
        _ = self.nodes
        return [
            each
            for each in self.snapshot.pods
            if each.spec.node_name in self.lost_nodes and is_active(each)
        ]

    def need(self, item: str) -> None:
        """Raise CouldNotVerify, with the gap's reason, unless this item was read.

        Single objects that could not be decoded are findings instead: see `undecodable`.
        """
        if (gap := self._gaps.get(item)) and not gap.objects:
            raise CouldNotVerify(gap.why, gap.remedy, transient=gap.transient)
        if item not in self.snapshot.read and item not in self._gaps:
            if item in AMBIENT and not self._has_ambient:
                return
            raise CouldNotVerify(
                f"this snapshot has no {_words(item)}",
                "capture it again for this stage (`meshgate capture FILE`)",
            )

    @cached_property
    def _has_ambient(self) -> bool:
        return uses_ambient(self.namespaces, self.pods)

    def undecodable(self, items: Iterable[str]) -> list[Finding]:
        """Return the objects of these items that could not be decoded, which nothing looked at."""
        return [
            Finding(
                f"{KINDS[item].type.__name__} {each.name}",
                "cannot be decoded, so it was not verified: "
                + (f"{each.field}: " if each.field else "")
                + each.why,
                remedy=self._gaps[item].remedy,
                problem="cannot-be-decoded",
                about=(("field", each.field),),
            )
            for item in items
            if item in self._gaps and item in KINDS
            for each in self._gaps[item].objects
        ]


def _words(item: str) -> str:
    return item.replace("_", " ")
