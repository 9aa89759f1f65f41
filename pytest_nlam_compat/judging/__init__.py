"""From what the current code computes to a verdict; no pytest here."""
