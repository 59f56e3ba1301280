"""Where in the words of a command a secret stands: behind an option, behind a name, or where this program takes it.

`-p` means a password to mysql and a port to ssh: what an option means is its program's own, so the programs are listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lanes.redaction_names import PLACE, Beside, family_of, is_path, is_value


@dataclass(frozen=True)
class Program:
    """How a program takes secrets: options whose next word is one, short options with it attached, and `user:password` pairs.

    `verb`: only behind this word of its own. `after`: words behind which the next plain word is the secret.
    """

    valued: tuple[str, ...] = ()
    attached: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    separator: str = ":"
    verb: str = ""
    after: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()


_MYSQL = Program(attached=("-p",))
_REGISTRY = Program(valued=("-p",), attached=("-p",), verb="login")
_MONGO = Program(valued=("-p",))
_LDAP = Program(valued=("-w",), attached=("-w",))
PROGRAMS: Mapping[str, Program] = {
    "curl": Program(pairs=("-u", "--user", "-U", "--proxy-user"), attached=("-u", "-U"), valued=("--pass", "--key-pass", "-b", "--cookie")),
    "wget": Program(valued=("--http-passwd",)),
    **dict.fromkeys(("mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlshow", "mariadb", "mariadb-dump"), _MYSQL),
    "sshpass": Program(valued=("-p",), attached=("-p",)),
    **dict.fromkeys(("docker", "podman", "nerdctl", "buildah", "skopeo", "helm", "oras", "crane", "apptainer", "singularity"), _REGISTRY),
    **dict.fromkeys(("az", "oc", "cf", "rancher"), Program(valued=("-p",), verb="login")),
    "wandb": Program(verb="login", after=("login",), taken=("--host", "--base-url", "--entity")),
    **dict.fromkeys(("vault", "comet", "swanlab", "clearml", "neptune"), Program(valued=("-k",), verb="login", after=("login",), taken=("-method", "-path", "--method", "-h", "--host"))),
    **dict.fromkeys(("huggingface-cli", "hf"), Program(verb="login")),
    "twine": Program(valued=("-p",)),
    "redis-cli": Program(valued=("-a", "--pass"), attached=("-a",)),
    **dict.fromkeys(("mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"), _MONGO),
    **dict.fromkeys(("ldapsearch", "ldapmodify", "ldapadd", "ldappasswd", "ldapwhoami"), _LDAP),
    **dict.fromkeys(("sqlcmd", "bcp", "zip", "unzip"), Program(valued=("-P",), attached=("-P",))),
    **dict.fromkeys(("7z", "7za", "7zz", "rar", "unrar"), Program(attached=("-p",))),
    "ssh-keygen": Program(valued=("-N", "-P")),
    "smbclient": Program(pairs=("-U", "--user"), separator="%", attached=("-U",)),
    "lftp": Program(pairs=("-u", "--user"), separator=",", attached=("-u",)),
    "rabbitmqctl": Program(after=("add_user", "change_password")),
    "kaggle": Program(valued=("-v",), verb="key"),
    "ipmitool": Program(valued=("-P",)),
    **dict.fromkeys(("ssh", "scp", "sftp", "rsync", "git", "python", "python3"), Program()),  # whose -p means something else
}  # fmt: skip
_SETTERS = frozenset({"set", "config", "configure", "secret", "secrets"})
_NAME_VALUE = re.compile(r"(?P<name>[A-Za-z_/:@.+-][\w./:@~-]{0,200}?)(?P<equal>\+?:?=)(?P<value>.*)\Z", re.DOTALL)
_MAX_WORDS = 4000


def spans_in(words: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """(index of the word, begin, end) of every secret that its place gives away; not those that their own shape does."""
    program, name, seen = None, "", set[str]()
    waiting = ""  # what the word before says of this one: the separator of a pair, "value", "named:NAME", "skip"
    for index, word in enumerate(words[:_MAX_WORDS]):
        if waiting == "plain" and word.startswith("-"):  # an option before it
            waiting = "plain after" if program is not None and word in program.taken else waiting
            continue
        if waiting == "plain after":
            waiting = "plain"
            continue
        if waiting and not word.startswith("--" if waiting == "value" else "-"):
            yield from ((index, begin, end) for begin, end in _given(word, waiting, words, index))
            waiting = ""
            continue
        waiting = ""
        base = word.rpartition("/")[2].removesuffix(".exe")
        if base in PROGRAMS and not word.startswith("-"):
            program, name, seen = PROGRAMS[base], base, set()
            continue
        if program is not None and (not program.verb or program.verb in seen):
            found, waiting = _by_program(program, word)
            yield from ((index, begin, end) for begin, end in found)
            if waiting or found:
                continue
        if word in _SETTERS or (program is not None and word in (program.verb, *program.after)):
            waiting = _after(program, word, seen)
            seen.add(word)
            continue
        found, waiting = _by_name(word, is_set=bool(seen & _SETTERS))
        yield from ((index, begin, end) for begin, end in found)
    if name == "htpasswd" or "htpasswd" in words[:3]:
        yield from _htpasswd(words)


def _after(program: Program | None, word: str, seen: set[str]) -> str:
    """What follows a verb: for some the secret itself."""
    if program is None or word not in program.after or word in seen:
        return ""
    return "plain"


def _given(word: str, waiting: str, words: Sequence[str], index: int) -> Iterator[tuple[int, int]]:
    if not word or PLACE.fullmatch(word) or waiting == "skip":
        return
    if waiting == "value":
        yield 0, len(word)
    elif waiting == "plain":
        if re.fullmatch(r"(?=.*\d)[\w.~+/=-]{8,}", word) and not is_path(word) and "://" not in word:
            yield 0, len(word)
        elif index + 1 < len(words) and words[index - 1] in ("add_user", "change_password"):
            return
    elif waiting.startswith("named:"):
        if _is_named(waiting[6:], word):
            yield 0, len(word)
    else:
        yield from _pair(word, 0, waiting)


def _pair(word: str, begin: int, separator: str) -> Iterator[tuple[int, int]]:
    """The password of `user:password`; of a user alone without password (`TOKEN:`) the user, where it is no plain word."""
    user, found, password = word[begin:].partition(separator)
    if found and password and not PLACE.fullmatch(password):
        yield begin + len(user) + 1, len(word)
    elif found and re.fullmatch(r"(?=.*\d)\S{12,}", user):
        yield begin, begin + len(user)


def _by_program(program: Program, word: str) -> tuple[list[tuple[int, int]], str]:
    """What this word of the program holds, and what it says of the next."""
    if word in program.taken:
        return [], "skip"
    if word in program.pairs:
        return [], program.separator
    if word in program.valued:
        return [], "value"
    for option in (*program.pairs, *program.valued):
        if option.startswith("--") and word.startswith(option + "="):
            begin = len(option) + 1
            if option in program.pairs:
                return list(_pair(word, begin, program.separator)), ""
            return [(begin, len(word))] if not PLACE.fullmatch(word[begin:]) else [], ""
    for option in program.attached:
        if word.startswith(option) and len(word) > len(option) and not word.startswith("--"):
            if option in program.pairs:
                return list(_pair(word, len(option), program.separator)), ""
            rest = word[len(option) :]
            return ([] if PLACE.fullmatch(rest) or not re.search(r"\w", rest) else [(len(option), len(word))]), ""
    if program.after and "login" in program.after and not word.startswith("-"):
        return [], ""
    return [], ""


def _by_name(word: str, *, is_set: bool) -> tuple[list[tuple[int, int]], str]:
    """`NAME=value`, `--name=value`, and `--name` or (behind `set`) `NAME` whose value is the next word."""
    found = _NAME_VALUE.match(word)
    if found:
        begin = found.start("value")
        value = found["value"]
        quote = value[:1] if len(value) > 1 and value[:1] == value[-1:] and value[:1] in "\"'" else ""
        inner = value[len(quote) : len(value) - len(quote)]
        if _is_named(found["name"].lstrip("-"), inner):
            return [(begin + len(quote), len(word) - len(quote))], ""
        return [], ""
    if re.match(r"pass[:=].", word) and not PLACE.fullmatch(word[5:]):  # openssl
        return [(5, len(word))], ""
    if word.startswith("-") and len(word) > 3 and family_of(word.lstrip("-")):
        return [], "named:" + word.lstrip("-")
    if is_set and family_of(word.rpartition(":")[2]) and " " not in word:
        return [], "named:" + word.rpartition(":")[2]
    return [], ""


def _is_named(name: str, value: str) -> bool:
    """Whether a value under this name is its secret. Beside an option stands no code: any word may be it, but for a place or number."""
    name = name.rpartition(":")[2] if "/" in name else name
    family = family_of(name)
    if not family or not value or PLACE.fullmatch(value) or is_path(value) or value.startswith("-"):
        return False
    if value.lower() in ("true", "false", "none", "null", "yes", "no"):
        return False
    if family == "phrase":
        return True
    is_number = re.fullmatch(r"[\d.,_e+-]{1,12}|<.*>", value) is not None
    return not is_number and (len(value) >= 4 or is_value(value, family, Beside(is_quoted=True)))


def _htpasswd(words: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """The last word of `htpasswd` with `-b`, which is then the password itself."""
    given = any(re.fullmatch(r"-[a-zA-Z]*b[a-zA-Z]*", word) for word in words)
    if given and len(words) > 3 and not words[-1].startswith("-"):
        yield len(words) - 1, 0, len(words[-1])
