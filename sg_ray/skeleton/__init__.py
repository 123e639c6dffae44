"""What ``sg-ray new family`` writes: a whole family, and its test. Both run as they are."""
