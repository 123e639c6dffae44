"""What a sweep shows while it runs: events in, a table or plain lines out."""
