"""The release of sg-ray, where everything below can read it."""

__version__ = "0.1.0"
