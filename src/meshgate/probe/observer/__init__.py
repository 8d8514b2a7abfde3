"""A program that sends requests for hours, keeps compact evidence, and serves it.

It runs in pods of the probe namespace: their image needs only Python, and every module here imports
only the standard library and the other modules.  `source.py` packs them into one argument.
"""
