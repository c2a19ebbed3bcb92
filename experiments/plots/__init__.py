"""Figures of commands, and how any figure is written."""
