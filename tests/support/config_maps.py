"""The ConfigMaps of one namespace, on an API server."""

import json
from collections.abc import Callable
from typing import Any

from tests.support.fakes import Answer, Request, answer, refusal

MAPS = "/api/v1/namespaces/istio-system/configmaps"
LIMIT = 1024 * 1024  # what an API server takes


class ConfigMaps:
    """The ConfigMaps of one namespace, on an API server; `no` may refuse a request."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.no: Callable[[Request], Answer | None] = lambda request: None

    def answer(self, request: Request) -> Answer:
        """As an API server does."""
        if refused := self.no(request):
            return refused
        name = request.path.removeprefix(f"{MAPS}/")
        if request.verb == "POST" and request.path == MAPS:
            created = json.loads(request.body)
            return self._keep(created["metadata"]["name"], created, 201)
        if name not in self.held:
            return refusal(404, f'configmaps "{name}" not found')
        if request.verb == "PUT":
            return self._keep(name, json.loads(request.body), 200)
        if request.verb == "DELETE":
            del self.held[name]
            return answer({"kind": "Status", "status": "Success"})
        return answer(self.held[name])

    def _keep(self, name: str, value: Any, status: int) -> Answer:
        if len(json.dumps(value)) > LIMIT:
            return refusal(413, "too large")
        self.held[name] = value
        return answer(value, status)

    @property
    def parts(self) -> list[str]:
        """The names of all but the head."""
        return sorted(self.held.keys() - {"baseline"})
