"""Traffic that becomes frozen observations.  Besides collect, the only code that opens sockets."""
