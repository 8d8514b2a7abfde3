#!/bin/sh
# The pipeline without an app-of-apps: each sync blocks, and one that fails ends the chain. For Applications without
# automated sync. (`argocd app wait` ignores how a sync ended: never gate on it.)
set -eu
for application in istio-base istiod istio-ingress sequential-restart-all-istio-enabled-services; do
  argocd app sync "$application"
done
