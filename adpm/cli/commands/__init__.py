"""One command a module, imported only when it is called; each has a ``command`` for the table in ``adpm.cli.main``."""
