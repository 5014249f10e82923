"""Places that hold releases, behind one port.

``port`` fixes what every registry guarantees; ``placed`` keeps the layout of ``specs/registry.md`` over any ``place``
that can hold bytes (``directory``, ``web``); ``chain`` decides which registry is asked for which package.
"""
