"""The lab's own tools. Standard library only: they run before any virtual environment exists."""
