"""Results as text, tables and pages; needs no torch."""
