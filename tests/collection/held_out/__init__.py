"""Programs that nobody who writes a diagnostic reads: they say how well it does on new ones."""
