"""Links to Drive: every public form gives the id that is in it, and nothing else passes for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.drive_links import DriveLink, colab_link, folder_link, parse_link
from lanes.verdict import Verdict

pytestmark = pytest.mark.req("S9-R15", "S9-R16")

ID = "1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVw"
OTHER = "0B7z9_Ab-Cd8eFgHiJkLmNoPqRsT"
DRIVE, DOCS, COLAB = "https://drive.google.com", "https://docs.google.com", "https://colab.research.google.com"

FORMS = {
    f"{DRIVE}/drive/folders/{{id}}": "folder",
    f"{DRIVE}/drive/u/1/folders/{{id}}": "folder",
    f"{DRIVE}/drive/u/0/mobile/folders/{{id}}": "folder",
    f"{DRIVE}/drive/mobile/folders/{{id}}": "folder",
    f"{DRIVE}/a/corp.example/drive/folders/{{id}}": "folder",
    f"{DRIVE}/folders/{{id}}": "folder",
    f"{DRIVE}/drive/folders/{OTHER}/{{id}}": "folder",
    f"{DRIVE}/#folders/{OTHER}/{{id}}": "folder",
    f"{DRIVE}/folderview?id={{id}}": "folder",
    f"{DRIVE}/embeddedfolderview?id={{id}}#list": "folder",
    f"{DRIVE}/file/d/{{id}}/view": "file",
    f"{DRIVE}/file/d/{{id}}/edit": "file",
    f"{DRIVE}/file/d/{{id}}": "file",
    f"{DRIVE}/file/u/2/d/{{id}}/preview": "file",
    f"{DRIVE}/a/corp.example/file/d/{{id}}/view": "file",
    f"{DRIVE}/open?id={{id}}": "unknown",
    f"{DRIVE}/u/3/open?id={{id}}&authuser=0": "unknown",
    f"{DRIVE}/uc?export=download&id={{id}}": "file",
    f"{DRIVE}/u/1/uc?id={{id}}&export=download": "file",
    f"{DRIVE}/thumbnail?id={{id}}&sz=w320": "file",
    "https://drive.usercontent.google.com/download?id={id}&export=download&confirm=t&uuid=7": "file",
    f"{DOCS}/uc?id={{id}}": "file",
    f"{DOCS}/document/d/{{id}}/edit#heading=h.abc": "file",
    f"{DOCS}/document/u/1/d/{{id}}/edit": "file",
    f"{DOCS}/a/corp.example/spreadsheets/d/{{id}}/edit#gid=0": "file",
    f"{DOCS}/spreadsheets/d/{{id}}/export?format=csv": "file",
    f"{DOCS}/presentation/d/{{id}}": "file",
    f"{DOCS}/forms/d/{{id}}/viewform": "file",
    f"{DOCS}/drawings/d/{{id}}/edit": "file",
    f"{COLAB}/drive/{{id}}": "file",
    f"{COLAB}/drive/{{id}}#scrollTo=a1B2c3": "file",
    f"{COLAB}/u/1/drive/{{id}}": "file",
    f"{COLAB}/notebook#fileId={{id}}": "file",
    f"{COLAB}/#fileId={{id}}&scrollTo=x": "file",
    f"{COLAB}/notebook#fileId=https%3A%2F%2Fdrive.google.com%2Ffile%2Fd%2F{{id}}%2Fview": "file",
    "https://www.googleapis.com/drive/v3/files/{id}?alt=media": "unknown",
    "https://lh3.googleusercontent.com/d/{id}=w1000": "file",
    "https://accounts.google.com/ServiceLogin?service=wise&continue=https%3A%2F%2Fdrive.google.com%2Fopen%3Fid%3D{id}": "unknown",
    f"https://www.google.com/url?q={DRIVE}/drive/folders/{{id}}&sa=D": "folder",
    "{id}": "unknown",
}  # fmt: skip


@pytest.mark.parametrize(("form", "kind"), FORMS.items())
def test_every_public_form_gives_its_id(form: str, kind: str) -> None:
    assert parse_link(form.format(id=ID)) == DriveLink(ID, kind)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "form", [form for form in FORMS if "wise" not in form and "/url?" not in form and form != "{id}"]
)
@pytest.mark.parametrize(
    "more", ["usp=sharing", "usp=drive_link&ouid=1&rtpof=true&sd=true", "authuser=2", "fbclid=x_y"]
)
def test_tracking_changes_nothing(form: str, more: str) -> None:
    link = form.format(id=ID)
    before, sign, fragment = link.partition("#")
    tracked = before + ("&" if "?" in before else "?") + more + sign + fragment
    for text in (tracked, f"  <{tracked}> ", tracked.removeprefix("https://"), tracked.replace("https:", "http:")):
        found = parse_link(text)
        assert isinstance(found, DriveLink), text
        assert found.id == ID


@pytest.mark.parametrize("key", ["resourcekey", "resourceKey"])
def test_a_resource_key_comes_along(key: str) -> None:
    for form in ("drive/folders/{id}?{key}=0-xYz_12&usp=sharing", "file/d/{id}/view?usp=sharing&{key}=0-xYz_12"):
        found = parse_link(f"{DRIVE}/{form.format(id=ID, key=key)}")
        assert found == DriveLink(ID, "folder" if "folders" in form else "file", "0-xYz_12")


@pytest.mark.parametrize(
    ("text", "why"),
    {
        "": "nothing",
        "my-training-results-folder": "no address",
        "results": "no address",
        f"{DRIVE}/drive/my-drive": "page `my-drive`",
        f"{DRIVE}/drive/u/0/shared-with-me": "page `shared-with-me`",
        f"{DRIVE}/drive/folders/": "no id",
        f"{DRIVE}/open?id=short": "no id",
        f"{DRIVE}.evil.example/file/d/{ID}/view": "neither Drive nor Colab",
        f"https://drive.google.com@evil.example/file/d/{ID}": "no address",
        f"https://evil.example/?u=drive.google.com/file/d/{ID}": "neither Drive nor Colab",
        f"{DOCS}/spreadsheets/d/e/2PACX-{ID}/pubhtml": "published to the web",
        f"{COLAB}/github/owner/repo/blob/main/nb.ipynb": "GitHub",
        "https://goo.gl/aBcDeF": "shortens",
        f"{DRIVE}/file/d/{ID}/view?resourcekey=a%0Ab": "resource key",
        "https://www.google.com/search": "by itself",
        f"{DRIVE}/file/d/{ID}\n{DRIVE}": "control characters",
        "x" * 5000: "longer",
        "javascript:alert(1)": "no address",
        f"ftp://drive.google.com/file/d/{ID}": "no address",
    }.items(),
)
def test_what_is_no_link_is_refused_with_the_reason(text: str, why: str) -> None:
    found = parse_link(text)
    assert isinstance(found, Verdict)
    assert not found.allowed
    assert why in found.reasons[0].fact
    assert found.next_steps


ids = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=25, max_size=44)


@given(ids, st.sampled_from(sorted(form for form in FORMS if form != "{id}")))
def test_any_id_in_any_form_is_read_whole(made: str, form: str) -> None:
    found = parse_link(form.format(id=made))
    assert isinstance(found, DriveLink)
    assert found.id == made


@given(ids)
def test_the_links_we_print_are_read_again(made: str) -> None:
    assert parse_link(folder_link(made)) == DriveLink(made, "folder")
    assert parse_link(colab_link(made)) == DriveLink(made, "file")


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    found = parse_link(text)
    assert isinstance(found, DriveLink) or not found.allowed


def test_my_drive_has_a_word() -> None:
    assert parse_link("root") == DriveLink("root", "folder")
