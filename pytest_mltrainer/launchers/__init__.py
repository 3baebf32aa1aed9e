"""One module per way to start a worker."""
