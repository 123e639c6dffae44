"""A seeded set of short C functions in vulnerable/fixed pairs, told apart by order and data flow."""

from sg_ray.data.synthetic.generator import generate

__all__ = ["generate"]
