"""Programs that whoever writes a diagnostic may read and try."""
