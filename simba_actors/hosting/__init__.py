"""One run in this process: what it is made of, as its owner or as a standby."""
