"""The machine's content-addressed cache, shared by all projects and safe for many processes at once.

``adpm.store.store.Store`` is the whole interface; each verb is a module of its own. Nothing is imported here, so that
``receipt``, on which a no-op install depends, stays light.
"""
