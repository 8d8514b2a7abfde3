"""Write to the cluster around the gates: publish verdicts and reports, restart workloads."""
