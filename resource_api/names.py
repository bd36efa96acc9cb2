"""Which resource names exist: the rule, without any file access."""

import re

# An object's name is that of a file (128 characters at most) with a suffix such as ".<sha256>.big"; file systems end
# at 255.
_OBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Far below the 4096 of a Linux path, with room for the path of the data directory.
_NAME_CHARACTERS = 1024


class InvalidNameError(ValueError):
    """No resource can have this name. The text is a sentence for the client."""


def parts_of(name: str) -> list[str]:
    """Split `folder/.../object` into components that are safe as file names, or raise InvalidNameError."""
    if len(name) > _NAME_CHARACTERS:
        raise InvalidNameError(f"A resource name has at most {_NAME_CHARACTERS} characters.")
    *folders, object_name = name.split("/")
    # Two dots within an object's name are harmless, and come about: the file `a.` has the object `a..small`.
    plain_folders = all(_FOLDER.fullmatch(folder) and ".." not in folder for folder in folders)
    if not (plain_folders and _OBJECT.fullmatch(object_name)):
        raise InvalidNameError(
            "Every component of a resource name begins with a letter or digit, consists of letters, digits, "
            '".", "_" and "-", and is not too long (128 characters, the last one 251); folders have no "..".'
        )
    return [*folders, object_name]
