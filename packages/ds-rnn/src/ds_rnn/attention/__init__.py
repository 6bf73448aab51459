"""Attention of recurrent networks: what part of a source the next step looks at."""
