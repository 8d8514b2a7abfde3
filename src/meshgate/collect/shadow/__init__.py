"""An upgrade tried with nothing applied: `trial` is the whole of it, the other modules its parts.

Of the plain reading of a cluster, beside this folder, only `readers` and `capture` know of it.
"""
