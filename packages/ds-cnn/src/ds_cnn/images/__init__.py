"""Images as data: files, folders, augmentation."""
