"""`python -m meshgate`: the commands."""

from meshgate.cli import app

if __name__ == "__main__":
    app(prog_name="meshgate")
