"""What is read of the world, and how.  With `probe/`, the only code that opens sockets, starts
processes and reads clocks."""
