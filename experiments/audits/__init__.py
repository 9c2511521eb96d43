"""Losses of other frameworks, and common mistakes, for the table of audits."""
