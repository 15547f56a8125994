"""Evaluation: predictions, how well they agree with listeners, and how sure that is."""
