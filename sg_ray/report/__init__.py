"""Tables and pages from run records; needs neither Ray nor a server."""
