# Thin verbs; what they do is in the programs that they call.
PYTHON ?= python3
BIN := .venv/bin
LAB := ci/lab/lab
NAME ?= default
# side by side, about 3 GiB each; 0 for one after the other in a lab of your own ($MESHGATE_LAB)
LABS ?= 2
demo-record: NAME = demo

# The image: one is loaded here, or one for several machines is pushed and signed.
ENGINE ?= docker
REGISTRY ?= localhost:5000
IMAGE ?= meshgate
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
PLATFORMS ?= linux/amd64,linux/arm64
ISTIO ?= $(shell sed -n 's/^ARG ISTIO=//p' Dockerfile)
TAG = $(VERSION)-istio$(ISTIO)
COMMIT = $$(git rev-parse HEAD)
EPOCH = $$(git log -1 --format=%ct)
BUILD = --build-arg VERSION=$(VERSION) --build-arg REVISION=$(COMMIT) \
  --build-arg ISTIO=$(ISTIO) $(IMAGE_OPTIONS)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-broken demo-record check test test-readme test-page test-chart test-prometheus test-fleet test-lab test-lab-ci test-lab-all test-argocd generate format lock ledger docs audit changelog package image image-push chart-push krew krew-publish e2e-kind lab-up lab-image lab-shell lab-reset lab-down

help: ## what there is to do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: .venv/.installed ## install everything that is needed, pinned by hash, into .venv

.venv/.installed: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

ledger: setup ## rebuild what Istio's releases changed (ci/ledger) and its pages, from the Go modules
	$(BIN)/python ci/ledger/build.py
	$(BIN)/python ci/ledger/pages.py

demo: setup ## verify a recorded, healthy mesh
	$(BIN)/pytest --snapshot=demo/healthy.json.gz

demo-broken: setup ## see how a broken upgrade is told
	@$(BIN)/pytest --snapshot=demo/broken.json.gz; status=$$?; \
	  if [ $$status -ne 1 ]; then echo "expected a closed gate (exit 1), got $$status"; exit 1; fi; \
	  echo "(The recording is of a mesh that was broken on purpose: a closed gate is right.)"

demo-record: setup ## record both demos anew, in a lab of their own (as test-lab; NAME=other)
	$(BIN)/python demo/record.py $(NAME)

check: setup ## ruff, mypy, codespell, the allowed imports and the five steps of each check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python ci/generate.py --check
	$(BIN)/codespell
	$(BIN)/pytest tests/conventions/test_checks.py -q

test: check ## everything that needs no lab (three at a time on two cores, for some wait)
	$(BIN)/pytest tests -n 3 --cov

test-readme: setup ## the README's commands, in a fresh copy with a fresh .venv
	$(BIN)/pytest tests/readme

test-page: setup ## the report in a real browser (Debian's Chromium; as root it is installed)
	@command -v chromium >/dev/null || \
	  { apt-get update -q && apt-get install -qy --no-install-recommends chromium; }
	$(BIN)/pytest tests/browser

test-chart: setup ## the chart, the examples and health checks for Argo CD, the workflows (Go: builds helm and others once)
	$(BIN)/pytest tests/chart

test-prometheus: setup ## the queries, in a real Prometheus (Go: builds it the first time)
	$(BIN)/pytest tests/prometheus

test-lab: setup ## real faults in a real mesh of the newest release, and upgrades to it (root, Go; builds what is not cached)
	MESHGATE_LAB_RELEASES=$${MESHGATE_LAB_RELEASES-2} \
	  $(BIN)/pytest tests/lab -n $(LABS) --dist loadfile -m "not every_release"

test-fleet: setup ## recordings in a real object storage, cosign (Go: builds both once, ten minutes), evidence with another Python
	$(BIN)/pytest tests/fleet

# The files of tests/lab that CI has time for; the others are run by hand with `make test-lab`.
CI_LAB = access controlplane controlplane_webhooks hooks ingress mtls reported_faults retry_after

test-lab-ci: setup ## the part of it that CI runs
	MESHGATE_LAB_RELEASES=$${MESHGATE_LAB_RELEASES-2} \
	  $(BIN)/pytest $(CI_LAB:%=tests/lab/test_%.py) -n $(LABS) --dist loadfile -m "not every_release"

test-lab-all: setup ## the same, and every stage and upgrade of every older release
	$(BIN)/pytest tests/lab -n $(LABS) --dist loadfile

test-argocd: setup ## upgrades in a real Argo CD, in a lab of their own (as test-lab; builds Argo CD the first time)
	MESHGATE_LAB_RELEASES=$${MESHGATE_LAB_RELEASES-2} \
	  $(BIN)/pytest tests/argocd

generate: setup ## write what follows from the code: roles, manifests (Go), schema, the table of stages
	$(BIN)/python ci/generate.py

format: setup ## rewrite the code as ruff would have it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# First dev.txt, which has s3fs: so it can be installed beside the pins of run.txt.
lock: setup ## pin the newest allowed versions of all Python packages
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile $(UV) pyproject.toml --group dev -o requirements/dev.txt
	$(BIN)/uv pip compile $(UV) pyproject.toml -c requirements/dev.txt -o requirements/run.txt
	$(BIN)/uv pip compile $(UV) --group build -c requirements/dev.txt -o requirements/build.txt

UV := --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
  --python-version 3.11

docs: setup ## the site, in site/; nothing of it may lead nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

audit: setup ## look up known vulnerabilities of the pinned Python packages and of the Go programs (network)
	$(BIN)/pip install --quiet 'pip-audit==2.9.*'
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements/dev.txt
	for module in ci/tools ci/go/* ci/lab/go/*; do \
	  (cd $$module && GOTOOLCHAIN=auto go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 -scan module) || exit 1; done

changelog: setup ## move the fragments in changelog.d/ into CHANGELOG.md
	$(BIN)/python ci/changelog.py

package: setup ## the wheel and the source archive, in dist/python
	$(BIN)/hatchling build --directory dist/python

image: ## IMAGE:VERSION-istioX.Y.Z, built by docker (ENGINE=podman) with the istioctl of ISTIO=X.Y.Z
	$(ENGINE) build $(BUILD) --tag $(IMAGE):$(TAG) .

image-push: ## the image for both machines, pushed to REGISTRY with its list of contents, and signed (buildx, cosign)
	docker buildx build $(BUILD) --build-arg SOURCE_DATE_EPOCH=$(EPOCH) --platform $(PLATFORMS) --sbom=true \
	  --provenance=mode=max --output type=image,name=$(REGISTRY)/meshgate:$(TAG),push=true,rewrite-timestamp=true \
	  --metadata-file image.json .
	digest=$$(sed -n 's/.*"containerimage.digest": "\([^"]*\)".*/\1/p' image.json); \
	  echo "digest=$$digest" >> "$${GITHUB_OUTPUT:-/dev/null}"; cosign sign --yes "$(REGISTRY)/meshgate@$$digest"

chart-push: ## the chart, pushed to REGISTRY/charts and signed (helm, cosign)
	helm package hooks/meshgate --destination dist
	helm push dist/meshgate-*.tgz oci://$(REGISTRY)/charts 2>&1 | tee dist/chart.txt
	digest=$$(sed -n 's/^Digest: //p' dist/chart.txt); \
	  echo "digest=$$digest" >> "$${GITHUB_OUTPUT:-/dev/null}"; cosign sign --yes "$(REGISTRY)/charts/meshgate@$$digest"

krew: ## the plugin for krew and its manifest, in dist/krew
	$(PYTHON) ci/krew.py

krew-publish: krew ## both as files of the release of this version (gh)
	gh release create "v$(VERSION)" --verify-tag --generate-notes dist/krew/*

e2e-kind: setup ## an upgrade in kind, gate after gate, with that image (docker, kind, kubectl, helm)
	IMAGE=$(IMAGE):$(TAG) ci/kind/e2e

lab-up: ## a real Kubernetes with a real Istio (NAME=other for a second one)
	$(LAB) up --name $(NAME)

lab-image: ## this project's image, built with buildah, in a registry of that lab
	$(LAB) image --name $(NAME)

lab-shell: ## a shell in its network, with kubectl and istioctl
	$(LAB) shell --name $(NAME)

lab-reset: ## its healthy state again, within seconds
	$(LAB) reset --name $(NAME)

lab-down: ## take all of it away
	$(LAB) down --name $(NAME)
