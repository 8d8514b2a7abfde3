"""Findings of stage D: sidecars, mTLS and Retry-After."""
