"""What is read of the world, and how; in `shadow/`, what an upgrade would make of it.

With `probe/`, the only code that opens sockets, starts processes and reads clocks.
"""
