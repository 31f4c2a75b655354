# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A password as a registry keeps it."""

from __future__ import annotations

import base64
import functools
import hashlib

from ansible.errors import AnsibleError
from ansible.utils.encrypt import do_encrypt

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError

ROUNDS = 10
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BCRYPT = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# 128 bits in 22 digits of 6 bits: of the last digit only two bits count, and the others are 0.
_LAST = ".Oeu"


@functools.cache
def htpasswd(password: str, username: str, salt: str) -> str:
    """The user's line of an htpasswd file with bcrypt, the same for the same three texts.

    ``salt`` may be known to all: it is there so that equal passwords of two clusters have different lines. The work is
    done by the C library or by passlib, whichever ansible-core finds; SlipwayError where there is neither.
    """
    try:
        line = do_encrypt(password, "bcrypt", salt=bcrypt_salt(f"{salt}:{username}"), rounds=ROUNDS, ident="2b")
    except AnsibleError as error:
        raise SlipwayError(
            Problem(
                "slipway_secret_registry_password",
                f"bcrypt is not to be had on the controller: {error}",
                "a C library with bcrypt (libxcrypt, as on most Linux systems), or the Python package passlib",
                "install libxcrypt or passlib on the controller",
            )
        ) from error
    return f"{username}:{line}"


def bcrypt_salt(text: str) -> str:
    """128 bits of the text's SHA-256 as the 22 digits that bcrypt takes."""
    digest = hashlib.sha256(f"slipway registry {text}".encode()).digest()[:16]
    digits = base64.b64encode(digest).decode("ascii")[:22].translate(str.maketrans(_BASE64, _BCRYPT))
    return digits[:21] + _LAST[digest[-1] & 3]
