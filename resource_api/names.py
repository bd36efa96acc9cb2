"""The rule for the names of resources. This module does not access files."""

import re

# Allow 251 characters: the name of an object is a file name of at most 128 characters with a suffix such as
# ".<object>.big", and file systems allow 255 characters.
_OBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# A path on Linux may have 4096 characters; the limit is lower, because the path of the data directory comes first.
NAME_CHARACTERS = 1024


class InvalidNameError(ValueError):
    """The name is not allowed for a resource. The text is a sentence for the client."""


def components_of(name: str) -> list[str]:
    """Split `folder/.../object` into components that are safe as file names. Raises InvalidNameError."""
    if len(name) > NAME_CHARACTERS:
        raise InvalidNameError(f"A resource name has at most {NAME_CHARACTERS} characters.")
    *folders, object_name = name.split("/")
    # Allow two dots in the name of an object, because they are harmless there and the file `a.` needs `a..small`.
    plain_folders = all(_FOLDER.fullmatch(folder) and ".." not in folder for folder in folders)
    if not (plain_folders and _OBJECT.fullmatch(object_name)):
        raise InvalidNameError(
            "Every component of a resource name begins with a letter or digit, consists of letters, digits, "
            '".", "_" and "-", and is not too long (128 characters, the last one 251); folders have no "..".'
        )
    return [*folders, object_name]
