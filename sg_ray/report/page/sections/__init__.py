"""The sections of a sweep's page: each module turns a Sweep into what one template shows."""
