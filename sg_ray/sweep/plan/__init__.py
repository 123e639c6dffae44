"""What is left to do, decided from the records alone."""
