"""Studies, claims, figures and the command line."""
