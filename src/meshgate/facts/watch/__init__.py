"""What a watch saw of an upgrade."""
