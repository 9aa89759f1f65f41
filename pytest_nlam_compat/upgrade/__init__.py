"""Looking at checkpoint files and carrying them over, without torch."""
