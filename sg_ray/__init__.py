"""sg-ray: learning-rate and seed sweeps for vulnerability detectors on Ray."""

__version__ = "0.1.0"
