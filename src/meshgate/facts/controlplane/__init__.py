"""Findings of stage B: istiod and every proxy that follows it."""
