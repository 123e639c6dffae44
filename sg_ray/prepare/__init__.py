"""Data, features and branches made ready before anything is trained."""
