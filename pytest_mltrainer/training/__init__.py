"""The task, its session, the loop, and everything that is recorded while it runs."""
