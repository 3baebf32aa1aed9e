"""Loops of other frameworks under a session: one module a framework, imported only where used.

Whatever the framework, the session gives batches, seeds, steps, checkpoints and validation, so that
a training is the built-in loop's, repeats, and is resumed exactly. `docs/adapters.md` shows the
lines that a task needs.
"""
