"""The command line: thin over ``adpm.ops`` and ``adpm.runtime``; only here are click, rich and terminals known."""
