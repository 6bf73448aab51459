"""Numbers in time, and what comes next."""
