"""Pure values: what adpm talks about. Nothing here reads a file, a clock or a network."""
