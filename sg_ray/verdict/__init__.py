"""What a sweep's records say about which configuration is better, and how sure that is."""
