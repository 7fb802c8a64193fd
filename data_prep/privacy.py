"""Public ids of patients and studies: kept if a public data set has anonymised them, else hashed with a secret salt.

No other personal data is read: no name, birth date, accession number or free text reaches an output or a log. Names of
files are in the list beside the set alone, see `findings`.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hgisam.errors import InputError
from hgisam.runs.folders import whole_file

# anonymous ids of public data sets: RSNA `ID_0a1b2c3d`, CT-ICH `049`, CQ500 `CQ500-CT-427`
ANONYMOUS = re.compile(r"ID_[0-9a-zA-Z]{6,12}|[0-9]{3}|CQ500-CT-[0-9]{1,3}")
SALT = "ids.salt"
PublicId = Callable[[str], str]


def read_salt(path: str | Path) -> bytes:
    """Reads the secret salt of the hashes; creates it, readable by its owner only, if the file does not exist.

    Args:
        path: File of the salt. Data sets that share patients should share it. Without it, hashes can be neither
            attributed to ids nor reproduced.

    Raises:
        InputError: If the file holds no valid salt.
    """
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as scratch:
            scratch.touch(mode=0o600)
            scratch.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    remedy = "Give the file of an earlier preparation, or none."
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        expected = "a text of 16 characters or more"
        raise InputError(f"salt {path}", "a file that can't be read", expected, remedy) from None
    if len(text) < 16:
        raise InputError(f"salt {path}", f"{len(text)} characters", "16 or more", remedy)
    return text.encode()


def public_ids(salt: str | Path, *, public: bool) -> PublicId:
    """Function from the id of a patient or study to its public id.

    Args:
        salt: File of the salt, see `read_salt`; read, or created, when the first id is hashed.
        public: True for a public data set. In a private folder a short number may be an id of the hospital.

    Returns:
        A function that keeps an anonymous id of a public data set, and turns any other id into `h_` and 16 hexadecimal
        digits of its HMAC-SHA-256. Without the salt, trying all numbers would reveal a short hospital number.
    """

    secret = cache(lambda: read_salt(salt))

    def public_id(identifier: str) -> str:
        if public and ANONYMOUS.fullmatch(identifier):
            return identifier
        return f"h_{hmac.new(secret(), identifier.encode(), hashlib.sha256).hexdigest()[:16]}"

    return public_id
