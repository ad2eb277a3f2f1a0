"""The report of a run: one HTML file that needs no network, and the figures as JSON."""
