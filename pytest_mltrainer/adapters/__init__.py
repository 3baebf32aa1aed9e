"""One module per training framework that a task may bring along."""
