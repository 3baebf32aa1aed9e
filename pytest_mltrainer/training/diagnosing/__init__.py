"""From what a run left behind to its diagnosis and to what to try next."""
