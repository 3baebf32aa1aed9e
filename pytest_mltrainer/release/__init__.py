"""The folder of a finished model."""
