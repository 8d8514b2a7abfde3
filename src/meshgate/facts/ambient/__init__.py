"""Ambient mode: which objects are in it, their node agents, and what istiod reports about them."""
