"""Thin notebooks: case files, and every rule against what comes near it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.notebook_code import take_apart
from lanes.notebook_commands import judge_shell
from lanes.notebook_rules import MENDS, Finding, check_thin
from lanes.notebook_secrets import secrets_in
from tests.lanes.notebook_strategies import BROKEN, notebooks

pytestmark = [pytest.mark.req("S18-R01"), pytest.mark.req("S18-R04"), pytest.mark.req("S9-R35")]
CASES = Path(__file__).resolve().parent.parent / "cases/notebooks/check"


def check(*sources: str, **metadata: Any) -> list[Finding]:
    """The findings for a notebook of these code cells."""
    cells = [
        {"cell_type": "code", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for text in sources
    ]
    return check_thin({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4})


def rules(*sources: str) -> list[str]:
    """The rules that these code cells break."""
    return [finding.rule for finding in check(*sources)]


@pytest.mark.parametrize("case", sorted(CASES.glob("*/")), ids=lambda path: path.name)
def test_a_case_is_found_as_it_says(case: Path) -> None:
    found = check_thin((case / "notebook.ipynb").read_bytes())
    told = [[finding.index, finding.heading, finding.line, finding.rule] for finding in found]
    assert told == json.loads((case / "expected.json").read_text())
    assert all(finding.mend == MENDS[finding.rule] and finding.fact for finding in found)


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_notebook_is_one_finding(text: bytes) -> None:
    assert [(finding.rule, finding.index) for finding in check_thin(text)] == [("broken", None)]


@pytest.mark.parametrize(
    "source",
    [
        "import os, sys\nfrom pathlib import Path",
        "ROOT = Path.home() / 'project'\nos.chdir(ROOT)",
        "DATA: str = f'{ROOT}/data'\nsys.path.insert(0, str(ROOT))",
        "try:\n    import google.colab\n    IN_COLAB = True\nexcept ImportError:\n    IN_COLAB = False",
        "if not ROOT.exists():\n    raise SystemExit('no project')",
        "assert torch.cuda.is_available(), 'Runtime > Change runtime type > GPU'",
        "NAME = os.environ.get('NAME', 'small')\nos.environ['HF_TOKEN'] = userdata.get('HF_TOKEN')",
        "CONFIGS = ['a.yaml', 'b.yaml']\nCONFIG = CONFIGS[0]",
        "%pip install -q trl==0.26\n%conda install -y x\n!uv pip install -e .\n!pip3 install 'x>=1'",
        "!hemma ps\n!run-hemma -- python -m project.train\n!hemma run --timeout 2h -- nvidia-smi",
        "!FOO=1 python3 -u -X dev -m project.train --config $CONFIG > {RUNS}/log.txt 2>&1",
        "!cd project && python script/train.py; git status | cat",
        "commit = !git rev-parse HEAD\nprint(commit)",
        "!accelerate launch -m project.train\n!uv run python -m project.train\n!make train\n!./script/train --fast",
        "subprocess.run([sys.executable, '-m', 'project.train', '--out', str(ROOT)], check=True)",
        "!python --version\n!python -m pip install x\n!!",
        "%env WANDB_MODE=offline\n%matplotlib inline\n%cd {ROOT}",
        "%%capture log\n!pip install x",
        "\n\n  \n%%time\n!python -m project.train \\\n   --one \\\n   --two",
        "# only words\n'''and %more\n!words'''\n?print\nROOT??",
    ],
)
def test_what_a_thin_notebook_does_is_no_finding(source: str) -> None:
    assert check(source) == []


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("if x:\n    async def f(): ...", "function"),
        ("key = sorted(names, key=lambda name: name)", "function"),
        ("df.query('a > 1')", "row-selection"),
        ("kept = {k: v for k, v in rows.items() if v}", "row-selection"),
        ("train = dataset.select(range(100)).shuffle(seed=1)", "row-selection"),
        ("part = df[(df.a > 1) & (df.b < 2)]", "row-selection"),
        ("import tarfile", "archive-resolution"),
        ("names = os.listdir('/content/drive')", "archive-resolution"),
        ("names = !ls *.zip", "archive-resolution"),
        ("lines = !cat rows.csv", "logic"),
        ("shutil.unpack_archive(ARCHIVE)", "archive-resolution"),
        ("while not done:\n    trainer.train()", "training-loop"),
        ("model.fit(x, y)", "training-loop"),
        ("x = 1\nfor i in range(3): print(i)", "logic"),
        ("result = compute(1)", "logic"),
        ("print([name for name in names])", "logic"),
        ("%%sql\nselect 1", "row-selection"),
        ("%%sx\npython -c 1", "command"),
        ("!python", "command"),
        ("!python -m $MODULE", "command"),
        ("!python -m pip wheel x", "command"),
        ("print('a')\n\x0celse:\nx = 1", "unreadable"),
        ('text = """\\"""\n!ls\n"""\n!cp a b', "command"),
        ("with open('x') as file: text = file", "logic"),
        ("del x", "logic"),
        ("print('a' 'b'", "unreadable"),
        ("%timeit [row for row in rows if row]", "row-selection"),
        ("x = %time df.query('a')", "row-selection"),
        ('!python -c "import x"', "command"),
        ("!hemma run -- bash -c 'x'", "command"),
        ("!jq .rows[] data.json > rows.json", "row-selection"),
        ("!python ../elsewhere/x.py", "command"),
        ("!python ~/x.py", "command"),
        ("!sudo rm -rf data", "command"),
        ("!rclone copy drive:x .", "archive-resolution"),
        ("x = !!python -c 1", "command"),
        ("subprocess.check_output('tar xf a.tar', shell=True)", "archive-resolution"),
    ],
)
def test_what_belongs_into_the_repository_is_found(source: str, rule: str) -> None:
    assert rules(source) == [rule]


def test_a_finding_names_the_cell_by_index_and_section() -> None:
    made = json.loads((CASES / "logic-in-cells/notebook.ipynb").read_text())
    first = check_thin(made)[0]
    assert (first.index, first.heading, first.line, first.fact) == (2, "Source", 4, "defines the function tokenize")


# --- secrets -----------------------------------------------------------------------------------------------------

# Put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "hugging-face": "hf_" + "aB3" * 11,
    "github": "ghp_" + "a1B2" * 9,
    "openai": "sk-" + "proj-" + "a1B2" * 8,
    "aws": "AKIA" + "ABCDEFGH12345678",
    "google": "AIza" + "a1B2c" * 7,
    "private-key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "url": "https://me:" + "s3cr3t@example.invalid/x",
    "named": 'API_KEY = "' + "8f3a9c2e1b" + '"',
    "environment": "%env WANDB_API_KEY=" + "8f3a9c2e1b",
    "setdefault": 'os.environ["SECRET_TOKEN"] = "' + "a b!9" * 3 + '"',
    "keyword": "login(token='" + "q8f3a9c2e1b" + "')",
}


@pytest.mark.req("S18-R08")
@pytest.mark.req("S20-R02")
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_in_any_cell_or_output_is_found_and_never_repeated(secret: str) -> None:
    markdown = {"cell_type": "markdown", "metadata": {}, "source": f"# Title\n\n{secret}"}
    stream = {"output_type": "stream", "name": "stdout", "text": [f"{secret}\n"]}
    code = {"cell_type": "code", "metadata": {}, "source": "print(1)", "outputs": [stream], "execution_count": 1}
    found = check_thin({"cells": [markdown, code], "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
    assert [(finding.index, finding.line, finding.rule) for finding in found] == [(0, 3, "secret"), (1, None, "secret")]
    told = " ".join(f"{finding.fact} {finding.mend}" for finding in found)
    assert secret[-9:-3] not in told


def test_an_image_in_an_output_is_no_text_to_search() -> None:
    data = {"image/png": "hf_" + "aB3" * 11, "text/plain": ["<Figure>"]}
    shown = {"output_type": "display_data", "data": data, "metadata": {}}
    cell = {"cell_type": "code", "metadata": {}, "source": "print(1)", "outputs": [shown], "execution_count": 1}
    assert check_thin({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}) == []


@pytest.mark.parametrize(
    "text",
    [
        "HF_TOKEN = userdata.get('HF_TOKEN')",
        'token = "YOUR_TOKEN_HERE"',
        "password: 'changeme1'",
        'pad_token = "<|endoftext|>"',
        'tokenizer = "org/model-7b"',
        "api_key = os.environ['API_KEY']",
        "https://{user}:{token}@example.invalid",
        "!git clone https://$USER:$TOKEN@example.invalid/x",
        "http://localhost:8080/a@b",
        "secret = 'name_of_it'",
        "max_new_tokens = 256",
    ],
)
def test_a_name_is_no_secret(text: str) -> None:
    assert list(secrets_in(text)) == []


# --- taking cells apart ------------------------------------------------------------------------------------------


def test_commands_are_told_from_python_that_looks_like_them() -> None:
    code = take_apart("a = '''\n%x\n!y'''\nb = (a\n% 2)\n# (\nif b:\n    !ls \\\n      -l\nc = 'it''s' % \\\n%d\n%cd x")
    assert [(command.line, command.kind, command.text) for command in code.commands] == [
        (8, "shell", "ls    -l".replace("    ", "        ")),
        (12, "magic", "cd x"),
    ]
    assert code.python.split("\n")[7:9] == ["    pass", ""]


def test_shell_operators_split_commands() -> None:
    assert judge_shell("python -m a && python -m b || python -m c; python -m d & wait") is None
    assert judge_shell("python -m a | awk 1") == ("row-selection", "awk chooses lines in the cell")
    assert judge_shell("python -m a 2>err >out <in") is None
    assert judge_shell("") is None


@given(st.text(max_size=60) | st.text(alphabet="'\"\\\n%!()#= ax", max_size=40))
def test_any_cell_can_be_checked(source: str) -> None:
    for finding in check(source, f"%%bash\n{source}", f"!{source}", f"%{source}"):
        assert finding.rule in MENDS
    assert take_apart(source).python.count("\n") == source.count("\n") or source.lstrip().startswith("%%")


@given(notebooks())
def test_any_notebook_can_be_checked_and_stays_in_order(made: dict[str, Any]) -> None:
    indices = [finding.index for finding in check_thin(made)]
    assert indices == sorted(index for index in indices if index is not None)


def test_absurd_cells_are_unreadable_or_logic_not_a_crash() -> None:
    assert rules("(" * 5000) == ["unreadable"]
    assert set(rules("x = " + "-" * 3000 + "1")) <= {"unreadable", "logic"}
    assert rules("x = " + "1+" * 3000 + "1") in (["unreadable"], ["logic"], [])
    assert rules("\0") == ["unreadable"]
    assert rules("'''\n" + "%d\n" * 20_000 + "'''") == []
