"""From what a project wants to one release of each package: the problem, the search, the explanation of a failure.

Start at ``solve.resolve``; ``problem`` holds the values that go in and come out, and the port ``Source``. Nothing
here knows a registry. The search itself is PubGrub, from ``nab-resolver``.
"""
