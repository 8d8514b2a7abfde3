# One image for all stages: `pytest -m controlplane` in it is the gate. Both base images are arguments: a pipeline passes
# digests, and the lab passes images that it built itself.
ARG BASE=docker.io/library/python:3.13-slim-bookworm
# The release of the istioctl in it: that of the upgrade's target. The image's tag names it, VERSION-istioX.Y.Z.
ARG ISTIO=1.31.0
ARG ISTIOCTL=docker.io/istio/istioctl:${ISTIO}

FROM ${ISTIOCTL} AS istioctl

FROM ${BASE} AS build
# Without an index: PIP_OPTIONS="--no-index --find-links=/wheels" and a volume with the wheels.
ARG PIP_OPTIONS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PYTHONDONTWRITEBYTECODE=1
WORKDIR /meshgate
RUN python3 -m venv /opt/build && python3 -m venv /opt/meshgate
COPY requirements/build.txt requirements/run.txt requirements/
RUN /opt/build/bin/pip install ${PIP_OPTIONS} --quiet --require-hashes -r requirements/build.txt \
 && /opt/meshgate/bin/pip install ${PIP_OPTIONS} --quiet --no-compile --require-hashes -r requirements/run.txt
# The client's half for asyncio and what only that half imports; the APIs that nothing here calls, and the models that the
# one that is called does not load: 75 MB. xdist: a Job has nothing to divide. The colors of
# what pytest never shows. The YAML parser in C, which nothing here uses. The data of securesystemslib's own tests. And the lists
# of files that are not there any more.
RUN /opt/meshgate/bin/pip uninstall --quiet --yes aiohttp aiohttp-retry aiosignal frozenlist multidict propcache yarl \
    pytest-xdist execnet \
 && cd /opt/meshgate/lib/python3*/site-packages/pygments/lexers \
 && for lexer in [a-z]*.py _[!_m]*.py; do case $lexer in python.py|diff.py) ;; *) rm "$lexer" ;; esac; done \
 && cd ../.. && rm kubernetes-*.dist-info/RECORD xds_protos-*.dist-info/RECORD yaml/_yaml.*.so \
 && rm -r securesystemslib/_vendor/ed25519/test_data \
 && cd kubernetes && rm -rf aio \
 && for api in client/api/*_api.py; do [ "$api" = client/api/core_v1_api.py ] || rm "$api"; done \
 && /opt/meshgate/bin/python -P -c 'import pathlib, sys; from kubernetes import client; client.ApiClient, client.CoreV1Api; \
loaded = {getattr(module, "__file__", None) for module in sys.modules.values()}; \
[file.unlink() for file in pathlib.Path("client/models").glob("*.py") if str(file.absolute()) not in loaded]'
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY docs/checks docs/checks
COPY conftest.py pytest.ini ./
COPY verification verification
COPY demo/healthy.json.gz demo/broken.json.gz demo/
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/meshgate/bin/pip install --quiet --no-compile --no-deps --no-index dist/*.whl \
 && /opt/meshgate/bin/pip uninstall --quiet --yes setuptools pip
# Envoy's messages that no proxy's configuration is assembled from, nor what these import.
RUN cd /opt/meshgate/lib/python3*/site-packages && /opt/meshgate/bin/python -P -c 'import pathlib, sys; \
import meshgate.collect.shadow.simulation; loaded = {getattr(module, "__file__", None) for module in sys.modules.values()}; \
trees = ("cel", "envoy", "google", "opencensus", "opentelemetry", "udpa", "xds"); \
[file.unlink() for tree in trees for file in pathlib.Path(tree).rglob("*.py") if str(file.absolute()) not in loaded]'
# What is in it now, by name and version, in CycloneDX: from what is installed, not from what was asked for.
RUN /opt/build/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
    --output-file /opt/meshgate/sbom.cdx.json /opt/meshgate/bin/python
# A gate on a recording proves that all is there. Byte-code is made of what it loads, and no more: the root of a gate is
# read-only, so what is not there now never will be. Hashed, so that it does not depend on the files' times.
COPY demo/healthy.json.gz /tmp/
ENV PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
RUN /opt/meshgate/bin/python -c 'import sys, pytest, meshgate.cli; from kubernetes import client, config; \
client.ApiClient, config.load_incluster_config; status = pytest.main(["--snapshot=/tmp/healthy.json.gz"]); \
files = {getattr(module, "__file__", None) for module in sys.modules.values()}; \
open("/tmp/loaded", "w").write("\n".join(sorted(filter(None, files)))); sys.exit(status)' \
 && PYTHONPYCACHEPREFIX=/opt/meshgate/bytecode python3 -m compileall -q --invalidation-mode unchecked-hash -i /tmp/loaded

FROM ${BASE}
COPY --from=istioctl /usr/local/bin/istioctl /usr/local/bin/istioctl
COPY --from=build /opt/meshgate /opt/meshgate
WORKDIR /meshgate
COPY conftest.py pytest.ini ./
COPY verification verification
# Before a RUN: some builders take a LABEL from their cache though the argument in it is another one now, but no RUN.
ARG VERSION=0.2.0
ARG REVISION=unknown
ARG ISTIO
# The tag and the label name this release: with another istioctl there is no image.
RUN test "$(istioctl version --remote=false --short)" = "client version: ${ISTIO}" \
 && mkdir reports && chmod 1777 reports
ENV PATH=/opt/meshgate/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 PYTHONPYCACHEPREFIX=/opt/meshgate/bytecode \
    PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
LABEL org.opencontainers.image.title=meshgate \
      org.opencontainers.image.description="Gates for Istio upgrades" \
      org.opencontainers.image.licenses=Apache-2.0 \
      io.meshgate.sbom=/opt/meshgate/sbom.cdx.json \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION} \
      io.istio.version=${ISTIO}
USER 65532:65532
VOLUME ["/meshgate/reports", "/tmp"]
CMD ["pytest"]
