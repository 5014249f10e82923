"""README's table of methods, made by trying them: see ``tests/table/__main__.py``."""
