"""Settings files are people's: every fault names file, key, rule and mend, and a slip is never ignored."""

from __future__ import annotations

from typing import Any

import pytest

from manifests.errors import UsageError
from manifests.settings import ProjectSettings, UserConfig, unknown_keys, validated


def refusal(kind: Any, table: dict[str, Any]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        validated(kind, table, "FILE")
    return caught.value


@pytest.mark.parametrize(
    ("table", "key", "rule", "mend"),
    [
        ({"hosts": {"gpu": {"keepalive_s": -1}}}, "hosts.gpu.keepalive_s", "above 0", "keepalive_s = 15.0"),
        ({"hosts": {"gpu": {"keepalive_s": True}}}, "hosts.gpu.keepalive_s", "number", "keepalive_s = 15.0"),
        ({"hosts": {"gpu": {"ssh": "-oProxyCommand=x"}}}, "hosts.gpu.ssh", "alias", 'ssh = "gpu-box"'),
        ({"hosts": {"gpu": {"ssh": "two words"}}}, "hosts.gpu.ssh", "alias", 'ssh = "gpu-box"'),
        ({"hosts": {"gpu": {"root": "work/repo"}}}, "hosts.gpu.root", "/ or ~", 'root = "~/work/repo"'),
        ({"hosts": {"gpu": {"python": "a\nb"}}}, "hosts.gpu.python", "one line", 'python = "python3"'),
        ({"lease_s": float("inf")}, "lease_s", "above 0", "lease_s = 60.0"),
        ({"lease_s": "60"}, "lease_s", "number", "lease_s = 60.0"),
        ({"login": "yes"}, "login", "boolean", "login = false"),
        ({"env": {"A": 1}}, "env.A", "string", "quoted"),
        ({"env": {"": "x"}}, "env", "names", "quoted"),
        ({"lease": 3}, "lease", "did you mean `lease_s`", "lease"),
        ({"hosts": {"gpu": {"state_dri": "~"}}}, "hosts.gpu.state_dri", "did you mean `state_dir`", "state_dri"),
    ],
)
def test_a_fault_names_file_key_rule_and_mend(table: dict[str, Any], key: str, rule: str, mend: str) -> None:
    error = refusal(UserConfig, table)
    assert error.message.startswith(f"FILE: `{key}`")
    assert rule in error.message
    assert mend in error.remedy
    assert "FILE" in error.remedy


def test_every_fault_is_named_at_once() -> None:
    error = refusal(ProjectSettings, {"root": "x", "lease_s": 0, "login": 1})
    assert all(key in error.message for key in ("`root`", "`lease_s`", "`login`"))


def test_an_environment_value_is_not_in_the_error() -> None:
    assert "hunter2" not in str(refusal(UserConfig, {"env": {"A": ["hunter2"]}}).as_dict())


def test_keys_of_a_later_version_are_kept_and_can_be_listed() -> None:
    table = {"hosts": {"gpu": {"ssh": "a", "slurm_partition": "a100"}}, "research": {"budget": 3}}
    config = validated(UserConfig, table, "FILE")
    assert unknown_keys(config) == ["research", "hosts.gpu.slurm_partition"]
    assert config.model_dump(exclude_unset=True) == table


def test_lane_rules_keep_their_order() -> None:
    rules = {"z": "local", "a": "hemma", "m": "colab"}
    assert list(validated(ProjectSettings, {"lanes": rules}, "FILE").lanes) == ["z", "a", "m"]
