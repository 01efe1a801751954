"""Pictures and curves, as matplotlib figures and PNG files."""
