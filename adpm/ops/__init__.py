"""Use cases, one a file: values and a listener in, values out. Nothing here prints."""
