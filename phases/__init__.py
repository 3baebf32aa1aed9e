"""The work of each phase: what it does, and the artifacts that it writes."""
