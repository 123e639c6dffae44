"""Ray's private names: all that this package uses, nowhere else; the reason why Ray is pinned.

tests/sweep/test_ray_private.py names the release in which they were read: with another one, look
at each of them again. Two modules, for what Train and Tune import takes seconds.
"""
