"""A seeded set of short C functions in pairs, told apart by statement order and data flow."""

from sg_ray.data.synthetic.generator import generate, mislabel

__all__ = ["generate", "mislabel"]
