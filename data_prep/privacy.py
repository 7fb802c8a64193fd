"""Patient and study ids: kept where a public set has made them anonymous, hashed everywhere else.

Nothing else about a person is read: no name, birth date, accession number or free text reaches an output or a log.
"""

import hashlib
import re

# ids that the publishers of the sets made up: RSNA `ID_0a1b2c3d`, CT-ICH `049`
ANONYMOUS = re.compile(r"ID_[0-9a-zA-Z]{6,12}|[0-9]{3}")


def public_id(identifier: str, *, anonymous: bool = False) -> str:
    """The id under which a patient or study is known downstream.

    Args:
        identifier: As the file says it.
        anonymous: Keep it whatever it looks like, as for a phantom.

    Returns:
        The id itself if its form is that of the public sets, else `h_` and 16 hexadecimal digits of its SHA-256. A hash
        of a short hospital number can be found by trying all numbers: guard the prepared set as you guard the raw one.
    """
    if anonymous or ANONYMOUS.fullmatch(identifier):
        return identifier
    return f"h_{hashlib.sha256(identifier.encode()).hexdigest()[:16]}"
