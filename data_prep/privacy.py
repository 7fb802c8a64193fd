"""Patient and study ids: kept where a public set has made them anonymous, hashed with a secret salt everywhere else.

Nothing else about a person is read: no name, birth date, accession number or free text reaches an output or a log.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hgisam.errors import InputError

# ids that the publishers of the sets made up: RSNA `ID_0a1b2c3d`, CT-ICH `049`, CQ500 `CQ500-CT-427`
ANONYMOUS = re.compile(r"ID_[0-9a-zA-Z]{6,12}|[0-9]{3}|CQ500-CT-[0-9]{1,3}")
SALT = "ids.salt"
PublicId = Callable[[str], str]


def read_salt(path: Path) -> bytes:
    """The secret that hashes depend on; made, for the owner's eyes only, where there is none yet.

    Args:
        path: Of the file. Sets whose patients are to be recognised in each other share one. Without it nobody can tell
            whose id a hash is, and nobody can make the same hashes again.

    Raises:
        InputError: If it holds no such secret.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.tmp")
        scratch.unlink(missing_ok=True)
        scratch.touch(mode=0o600)
        scratch.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        scratch.replace(path)
    remedy = "Give the file that an earlier preparation made, or none."
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"salt {path}", "a file that can't be read", "a text of 16 characters or more", remedy
        ) from None
    if len(text) < 16:
        raise InputError(f"salt {path}", f"{len(text)} characters", "16 or more", remedy)
    return text.encode()


def public_ids(salt: Path, *, public: bool) -> PublicId:
    """A function that gives the id under which a patient or study is known downstream.

    Args:
        salt: File of the secret, see `read_salt`; opened, or made, for the first id that has to be hashed.
        public: Whether the set is one of those. In a folder of somebody's own a short number may be a hospital's.

    Returns:
        The id itself if its form is that of the public sets and this is one, else `h_` and 16 hexadecimal digits of its
        HMAC-SHA-256: without the salt a hash of a short hospital number could be found by trying all numbers.
    """

    secret = cache(lambda: read_salt(salt))

    def public_id(identifier: str) -> str:
        if public and ANONYMOUS.fullmatch(identifier):
            return identifier
        return f"h_{hmac.new(secret(), identifier.encode(), hashlib.sha256).hexdigest()[:16]}"

    return public_id
