"""Adapters in a live transformers model. The only package that imports torch and transformers."""
