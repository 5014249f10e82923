"""``python -m adpm``."""

from adpm.cli.main import run

if __name__ == "__main__":
    run()
