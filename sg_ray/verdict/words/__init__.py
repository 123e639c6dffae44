"""The verdict in plain English."""
