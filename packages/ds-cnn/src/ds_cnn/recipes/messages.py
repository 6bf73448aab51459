"""Errors of images, and the names of pictures, in the words of the command line."""

from pathlib import Path

from ds_core import UserError

from ds_cnn.images.image_files import HOW_TO_SKIP
from ds_cnn.images.image_folder import HOW_TO_TAKE_LESS
from ds_cnn.images.read_image import HOW_TO_ALLOW

# What a Python program can do, and what somebody can who types
_TYPED = {
    HOW_TO_SKIP: "--skip-faulty leaves out what cannot be used",
    HOW_TO_ALLOW: "make it smaller",
    HOW_TO_TAKE_LESS: "give a smaller --image-size, or fewer images",
}


def typed(error: UserError) -> UserError:
    """The error with options in place of arguments."""
    message = str(error)
    for argument, option in _TYPED.items():
        message = message.replace(argument, option)
    return type(error)(message)


def check_picture(flag: str, path: Path) -> None:
    """Raise `UserError` unless a picture that is to be written is named as the PNG that it will be."""
    if path.suffix.lower() != ".png":
        raise UserError(f"{flag} {path}: pictures are written as PNG, expected a name that ends with .png")
