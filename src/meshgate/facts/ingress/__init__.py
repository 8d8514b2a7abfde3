"""Findings of stage C: gateways and the traffic through them."""
