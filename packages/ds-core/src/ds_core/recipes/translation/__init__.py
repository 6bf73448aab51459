"""What recipes of translation share. A recipe adds its model: see `run.TranslationRun`."""
