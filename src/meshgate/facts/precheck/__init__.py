"""Findings of stage A: what stands in the way of the upgrade."""
