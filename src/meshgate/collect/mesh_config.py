"""The mesh config of each revision, and what istiod's replicas say that they use.

Mesh configs hold what people put there, so only names and the result of the comparison are kept.
"""

from typing import Any

import msgspec

from meshgate.collect import istiod
from meshgate.collect.errors import ReadError
from meshgate.collect.readers import Context, replicas
from meshgate.semantics import mesh_config, meshes
from meshgate.semantics.mesh_config_values import faults
from meshgate.snapshot.base import Base
from meshgate.snapshot.items import Items
from meshgate.snapshot.kubernetes import Pod
from meshgate.snapshot.mesh_config import EffectiveConfig, MeshConfig
from meshgate.snapshot.sources import Kind

MESH, CLUSTERS = "/debug/mesh", "/debug/clusterz"


class _Data(Base, frozen=True):
    mesh: str = ""


class _ConfigMap(Base, frozen=True):
    data: _Data = _Data()


_KIND = Kind("configmaps", "", "v1", "configmaps", _ConfigMap)


def read(context: Context, found: Items) -> tuple[MeshConfig, ...]:
    """Return the mesh config of each revision that has a running istiod and a ConfigMap.

    Raises ReadError if a ConfigMap cannot be read.
    """
    by_revision: dict[str, list[Pod]] = {}
    for pod in replicas(context, found):
        by_revision.setdefault(meshes.revision(pod.metadata.labels), []).append(pod)
    configs = (_of(context, name, pods) for name, pods in sorted(by_revision.items()))
    return tuple(config for config in configs if config is not None)


def _of(context: Context, revision: str, pods: list[Pod]) -> MeshConfig | None:
    namespace = context.expectations.istio_namespace
    name = "istio" if revision == meshes.DEFAULT else f"istio-{revision}"
    only = f"metadata.namespace={namespace},metadata.name={name}"
    maps = context.cluster.objects(msgspec.structs.replace(_KIND, only=only))
    if not maps:
        return None
    subject = f"ConfigMap {namespace}/{name}"
    try:
        config = msgspec.yaml.decode(maps[0].data.mesh or "{}")
    except (ValueError, msgspec.MsgspecError):
        # not the error's own words: they may quote what was read
        return MeshConfig(
            revision=revision, config_map=subject, unparsable=("the key mesh: is not YAML",)
        )

    def ask(pod: Pod, session: istiod.Session) -> EffectiveConfig:
        return _ask(pod, session, config)

    return MeshConfig(
        revision=revision,
        config_map=subject,
        unparsable=tuple(faults(config)),
        effective=istiod.ask_each(pods, context.transport, EffectiveConfig, ask),
    )


def _ask(pod: Pod, session: istiod.Session, config: Any) -> EffectiveConfig:
    effective = _decoded(session, MESH)
    clusters = _decoded(session, CLUSTERS)
    return EffectiveConfig(
        pod=pod.metadata.name,
        different=tuple(mesh_config.different(config, effective)),
        providers=tuple(
            str(each.get("name"))
            for each in (effective or {}).get("extensionProviders") or ()
            if isinstance(each, dict)
        ),
        clusters={
            str(each.get("id")): str(each.get("syncStatus"))
            for each in clusters or ()
            # without a Secret it is the cluster that istiod runs in
            if isinstance(each, dict) and each.get("secretName")
        },
    )


def _decoded(session: istiod.Session, path: str) -> Any:
    """Return what a path answers; None where istiod does not serve several clusters."""
    answer = session.get(path)
    if path == CLUSTERS and answer.status == 400:
        return None
    if answer.status != 200:
        raise istiod.refusal(path, answer)
    try:
        return msgspec.json.decode(answer.body)
    except (ValueError, RecursionError) as error:
        raise ReadError(
            f"cannot decode {path}: {error}", "report this with istiod's version"
        ) from error
