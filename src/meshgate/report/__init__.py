"""Reports for people and programs, all from the same outcomes."""
