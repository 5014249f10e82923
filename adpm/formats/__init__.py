"""Bytes to values and back. Readers are strict and bounded and report all faults at once; writers are canonical."""
