import pytest

from samerun.host.machine import network


@pytest.mark.parametrize(
    ("online", "downloads", "expected"),
    [(False, False, "none"), (True, False, "samerun"), (False, True, "samerun")],
)
def test_network_is_there_only_for_who_needs_it(online, downloads, expected):
    """Nothing to reach: no network at all."""
    given = {"none": False, "online": online, "downloads": downloads}

    assert expected == network.choose(None, **given)


def test_users_own_choice_wins_and_no_network_over_all():
    """A named network, or none."""
    assert network.choose("lab", none=False, online=False, downloads=False) == "lab"
    assert network.choose(None, none=True, online=True, downloads=True) == "none"


def test_rules_are_about_our_own_bridge_only():
    """Nobody else's traffic is touched; names are still resolved."""
    script = network.script()
    jumps = [line for line in script.split(" && ") if "-j SAMERUN" in line]

    assert len(jumps) == 1 + len(network.METADATA)
    assert all(line.count("-i samerun0") == 2 for line in jumps)
    assert "--dport 53 -j RETURN" in script
    assert script.index("--dport 53") < script.index("-j REJECT")
