"""Changes that the read-only view makes to what the API server returns."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Changed(msgspec.Struct, frozen=True):
    """Objects that a program sees in another state: the upgrade, while nothing is applied.

    Keys are (group, resource, namespace, name).  `replaced` objects are returned as given here,
    whatever the cluster has; `hidden` ones are left out.
    """

    replaced: Mapping[tuple[str, str, str, str], dict[str, Any]] = {}
    hidden: frozenset[tuple[str, str, str, str]] = frozenset()

    def touches(self, kind: tuple[str, str]) -> bool:
        """Return whether any object of a kind is changed."""
        return any(key[:2] == kind for key in (*self.replaced, *self.hidden))

    def single(self, kind: tuple[str, str], namespace: str, name: str) -> dict[str, Any] | None:
        """Return the object that replaces another one, if any.

        Args:
            kind: group and resource.
            namespace: its namespace; empty for a cluster-wide object.
            name: its name.

        Returns:
            The object, or None.
        """
        return self.replaced.get((*kind, namespace, name))

    def listing(self, kind: tuple[str, str], page: Any, selection: "ListSelection") -> Any:
        """Return a page of a list with the changes applied.

        Args:
            kind: group and resource.
            page: the page, as the API server returned it.
            selection: the objects that the list selects.

        Returns:
            The page with replaced objects, and without hidden ones.
        """
        items = [item for item in page.get("items") or () if not self.concerns(kind, item)]
        version = page.get("metadata", {}).get("resourceVersion", "1")
        last = not page.get("metadata", {}).get("continue")
        for (*of, namespace, name), item in self.replaced.items():
            if last and tuple(of) == kind and selection.fits(namespace, name):
                items.append(item | {"metadata": item["metadata"] | {"resourceVersion": version}})
        return page | {"items": items}

    def concerns(self, kind: tuple[str, str], item: Any) -> bool:
        """Return whether the cluster's object is replaced or hidden."""
        metadata = item.get("metadata", {})
        key = (*kind, metadata.get("namespace", ""), metadata.get("name", ""))
        return key in self.replaced or key in self.hidden


class ListSelection(msgspec.Struct, frozen=True):
    """The objects that a list selects: a namespace, a name, or all."""

    namespace: str
    fields: str
    labels: str

    def fits(self, namespace: str, name: str) -> bool:
        """Return whether an object belongs to the list."""
        wanted = {"metadata.name": name, "metadata.namespace": namespace}
        return (
            self.namespace in ("", namespace)
            and not self.labels
            and all(
                wanted.get(field) == value
                for field, _, value in (row.partition("=") for row in self.fields.split(",") if row)
                if not field.endswith("!")
            )
        )
