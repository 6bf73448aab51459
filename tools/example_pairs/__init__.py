"""Writes the example sentences that ds-core ships, in four languages. Nothing else uses it."""
