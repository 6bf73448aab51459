"""Losses: one number from predictions and targets, and its gradient."""
