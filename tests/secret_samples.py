"""Samples of secrets by kind, made anew from the formats that issuers document: no value here was ever one of anybody.

Put together from parts, so that no scanner takes this repository for a leak. `OPEN` is the half that the masker was written
beside; `SEALED` the half it was measured on once, before that half was read (the figure stands in SECURITY.md).
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable

_LETTERS, _DIGITS = string.ascii_letters, string.digits
_MIXED = _LETTERS + _DIGITS
_HEX = "0123456789abcdef"
Sample = tuple[str, str]
"""(a line as it stands in a file, a log or on a command line; the secret in it)"""


class Chance:
    """Values by a fixed seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def of(self, length: int, alphabet: str = _MIXED) -> str:
        """So many characters; the first a letter and the second a digit where the alphabet has both."""
        made = [self._random.choice(alphabet) for _ in range(length)]
        letters, digits = [c for c in alphabet if c.isalpha()], [c for c in alphabet if c.isdigit()]
        if letters and digits and length > 3:
            made[0], made[1] = self._random.choice(letters), self._random.choice(digits)
        return "".join(made)

    def word(self) -> str:
        """A password that a person chose: a plain word, words, or a word with marks and numbers."""
        first, second = (self._random.choice(_CHOSEN) for _ in range(2))
        return self._random.choice(
            (first + second, f"{first}{self._random.randrange(10, 9999)}", f"{first}-{second}!7", f"{first}@{second}4")
        )


_CHOSEN = (
    "correct",
    "horse",
    "battery",
    "staple",
    "winter",
    "meadow",
    "granite",
    "lantern",
    "orchid",
    "copper",
    "harbour",
)
Kind = Callable[[Chance], Sample]


def _led(lead: str, length: int, alphabet: str = _MIXED, tail: str = "") -> Kind:
    def make(chance: Chance) -> Sample:
        value = lead + chance.of(length, alphabet) + tail
        return f"using {value} for this", value

    return make


def _at(line: str, length: int = 0, alphabet: str = _MIXED) -> Kind:
    """A line with the value at `@@`: by chance where a length is given, else a chosen password."""

    def make(chance: Chance) -> Sample:
        value = chance.of(length, alphabet) if length else chance.word().replace("@", "_")
        return line.replace("@@", value), value

    return make


def _docker(chance: Chance) -> Sample:
    value = base64.b64encode(f"me:{chance.of(18)}".encode()).decode()
    return '{"auths": {"https://index.example.invalid/v1/": {"auth": "' + value + '"}}}', value


def _encrypted_token(chance: Chance) -> Sample:
    value = "eyJ" + chance.of(40) + ".." + chance.of(16) + "." + chance.of(60) + "." + chance.of(22)
    return f"cookie holds {value}", value


def _signed_token(chance: Chance) -> Sample:
    value = "eyJ" + chance.of(33) + ".eyJ" + chance.of(80) + "." + chance.of(43, _MIXED + "-_")
    return f"GET /x?jwt={value}&y=1", value


def _armoured(chance: Chance) -> Sample:
    body = "\n".join(chance.of(64, _MIXED + "+/") for _ in range(4))
    return "-----BEGIN OPENSSH " + f"PRIVATE KEY-----\n{body}\n-----END OPENSSH " + "PRIVATE KEY-----", body


def _address_with_at(chance: Chance) -> Sample:
    value = f"p@{chance.of(6)}@x"
    return f"postgresql://me:{value}@db.example.invalid:5432/data", value


def _slack_address(chance: Chance) -> Sample:
    value = f"T{chance.of(8, _DIGITS)}/B{chance.of(8, _DIGITS)}/{chance.of(24)}"
    return "post to https://hooks.slack" + f".com/services/{value}", value


OPEN: dict[str, Kind] = {
    "password in a file of settings": _at("password=@@"),
    "password in YAML": _at("  password: @@\n"),
    "password in JSON": _at('{"db_password": "@@", "port": 1}'),
    "netrc": _at("machine h.example.invalid login me password @@\n"),
    "netrc over lines": _at("machine h.example.invalid\n  login me\n  password @@\n"),
    "curl": _at("curl -s -u me:@@ https://h.example.invalid/x"),
    "mysql": _at("mysql -u root -p@@ data"),
    "sshpass": _at("sshpass -p @@ ssh h.example.invalid"),
    "psql": _at("PGPASSWORD=@@ psql -h h.example.invalid"),
    "docker login": _at("docker login -u me -p @@ r.example.invalid"),
    "wandb login": _at("wandb login @@", 40, _HEX),
    "option": _at("train --password @@ --epochs 3"),
    "option in a list": _at("Command '['curl', '-u', 'me:@@', 'h']' returned non-zero"),
    "cookie": _at("Cookie: session=@@; theme=dark", 32),
    "signature of shared access": _at("https://a.blob.example.invalid/c?sv=2020&sig=@@%3D&se=1", 43),
    "token as login of an address": _at("https://@@@git.example.invalid/a/b.git", 40),
    "password in an address": _at("https://me:@@@h.example.invalid/x"),
    "password with @ in an address": _address_with_at,
    "docker settings": _docker,
    "kaggle settings": _at('{"username":"me","key":"@@"}', 32, _HEX),
    "encrypted web token": _encrypted_token,
    "signed web token": _signed_token,
    "age": _led("AGE-SECRET-" + "KEY-1", 58, string.ascii_uppercase + _DIGITS),
    "private key": _armoured,
    "hugging face": _led("hf" + "_", 34, _LETTERS),
    "github": _led("ghp" + "_", 36),
    "gitlab": _led("glpat" + "-", 20, _MIXED + "-_"),
    "aws key": _led("AKIA", 16, string.ascii_uppercase + "234567"),
    "aws secret": _at("aws_secret_access_key = @@", 40, _MIXED + "/+"),
    "slack": _led("xoxb" + "-", 24, _DIGITS),
    "slack address": _slack_address,
    "sendgrid": _led("SG" + ".", 22, _MIXED, "." + "A1" * 21 + "b"),
    "npm settings": _at("//registry.example.invalid/:_authToken=@@", 36),
    "header": _at("Authorization: Bearer @@", 32),
    "header of a service": _at("X-Api-Key: @@", 32),
}  # fmt: skip
SEALED: dict[str, Kind] = {
    "redis": _at("redis-cli -h h -a @@ ping"),
    "ldap": _at("ldapsearch -x -D cn=me -w @@ -b dc=x"),
    "smb": _at("smbclient -U me%@@ //h/share"),
    "ftp in an address": _at("lftp ftp://me:@@@h.example.invalid"),
    "XML": _at("<server><password>@@</password></server>"),
    "SQL": _at("CREATE USER me WITH PASSWORD '@@';"),
    "connection string": _at("Server=h;Database=d;User Id=me;Password=@@;"),
    "INI with spaces": _at("[login]\npassword = @@\n"),
    "TOML": _at('client_secret = "@@"', 32),
    "environment of a container": _at("docker run -e DB_PASSWORD=@@ image"),
    "terraform": _at('variable "x" { default = "y" }\nmaster_password = "@@"'),
    "python keyword": _at('connect(user="me", password="@@")'),
    "query": _at("GET /login?user=me&access_token=@@&y=1 HTTP/1.1", 30),
    "storage account": _at("AccountName=a;AccountKey=@@==;EndpointSuffix=x", 86, _MIXED + "+/"),
    "pypi": _led("pypi" + "-AgEIcHlwaS5vcmc", 80, _MIXED + "-_"),
    "openai": _led("sk" + "-proj-", 48, _MIXED + "-_"),
    "google": _led("AIza", 35, _MIXED + "-_"),
    "google oauth": _led("GOCSPX" + "-", 28, _MIXED + "-_"),
    "stripe": _led("sk" + "_live_", 24),
    "telegram": _at("bot 123456789:AA@@ started", 33, _MIXED + "-_"),
    "digital ocean": _led("dop" + "_v1_", 64, _HEX),
    "databricks": _led("dapi", 32, _HEX),
    "vault": _led("hvs" + ".", 90, _MIXED + "-_"),
    "grafana": _led("glsa" + "_", 32, _MIXED, "_0a1b2c3d"),
    "shopify": _led("shpat" + "_", 32, _HEX),
    "postman": _led("PMAK" + "-", 24, _HEX, "-" + "0a" * 17),
    "docker token": _led("dckr" + "_pat_", 27, _MIXED + "-_"),
    "npm": _led("npm" + "_", 36),
    "groq": _led("gsk" + "_", 52),
    "nvidia": _led("nvapi" + "-", 64, _MIXED + "-_"),
    "tailscale": _led("tskey" + "-auth-", 17, _MIXED, "-" + "a1B2" * 8),
    "kubernetes": _at("client-key-data: @@==", 200),
    "pgpass": _at("localhost:5432:data:me:@@"),
    "session": _at("JSESSIONID=@@; Path=/", 32, "0123456789ABCDEF"),
}  # fmt: skip


def samples(kinds: dict[str, Kind], count: int, seed: int = 20_261_201) -> dict[str, list[Sample]]:
    """So many of each kind."""
    chance = Chance(seed)
    return {name: [make(chance) for _ in range(count)] for name, make in kinds.items()}
