"""What Istio and Kubernetes mean by their objects: pure functions without findings."""
