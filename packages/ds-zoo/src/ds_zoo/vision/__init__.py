"""What the models that look at images share: patches as tokens, images in and out."""
