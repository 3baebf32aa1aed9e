"""One module per export format, and the comparison of an export with the model."""
