"""One trial without a sweep: train, reproduce."""
