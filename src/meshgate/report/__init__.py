"""What people and machines are shown: observers of the same outcomes."""
