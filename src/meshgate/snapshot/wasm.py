"""WasmPlugins, and what the proxies' agents say of loading their modules."""

from meshgate.snapshot.base import Base
from meshgate.snapshot.istio import PeerSelector, TargetRef
from meshgate.snapshot.kubernetes import Metadata


class WasmPluginSpec(Base, frozen=True):
    selector: PeerSelector | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    url: str = ""
    fail_strategy: str = ""


class WasmPlugin(Base, frozen=True):
    metadata: Metadata
    spec: WasmPluginSpec = WasmPluginSpec()


class WasmLoads(Base, frozen=True):
    """How often the agent of one pod (`namespace/name`) tried to load modules, by result.

    `results`: the label of istio_agent_wasm_config_conversion_count (`success`, `fetch_failure`)
    with its count since the pod started.  `error`: why it did not answer.
    """

    pod: str
    results: dict[str, int] = {}
    error: str = ""
