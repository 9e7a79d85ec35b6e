"""pinnace.yaml as people write it: right, wrong, and half."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.appliance.wishes import LIMIT, Lamps, Ports, Wifi, read

TEMPLATE = Path(__file__).resolve().parents[4] / "packaging/image/boot/pinnace.yaml"
TOKEN = hashlib.sha256(b"ca").hexdigest() + ".eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln-_"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0dVbK1SLq5J7mP1o0B8mNf1w0mM0m7m2m1m8m4m6m9 me@laptop"
GOOD = f"cloud: 192.168.4.10\ntoken: {TOKEN}\n"


def faults(text: str) -> list[str]:
    wishes, found = read(text.encode())
    assert (wishes is None) == bool(found)
    return [str(each) for each in found]


def test_reads_what_is_needed() -> None:
    wishes, found = read(GOOD.encode())
    assert wishes is not None
    assert (wishes.cloud, wishes.token, wishes.node, wishes.labels, wishes.wifi, wishes.gpio) == ("192.168.4.10", TOKEN, "", {}, None, None)
    assert found == []


@pytest.mark.parametrize("line", ["token:\n", ""])
def test_a_board_that_has_joined_needs_no_token(line: str) -> None:
    wishes, found = read(f"cloud: 192.168.4.10\n{line}".encode(), needs_token=False)
    assert found == []
    assert wishes is not None
    assert wishes.token == ""
    assert "expected four parts" in str(read(b"cloud: a\ntoken: abc\n", needs_token=False)[1][0]), "a half one is a mistake all the same"


def test_reads_all_there_is() -> None:
    wishes, found = read(
        f"""{GOOD}node: greenhouse-1
labels: {{place: greenhouse, hostname: 192.168.4.22-pi2, example.org/kind: pi}}
wifi: {{country: DE, name: off, password: 01234567}}
ssh-key: {KEY}
timeserver: 192.168.4.1
gpio:
  device: traffic-light-instance-01
  pins: {{red: 25, green: 23}}
ports: {{hub: 11000, bootstrap: 11002, tunnel: 11004}}
""".encode()
    )
    assert found == []
    assert wishes is not None
    assert wishes.labels == {"place": "greenhouse", "hostname": "192.168.4.22-pi2", "example.org/kind": "pi"}
    assert wishes.wifi == Wifi("DE", "off", "01234567"), "scalars are what stands there, not what YAML makes of it"
    assert (wishes.ssh_key, wishes.timeserver) == (KEY, "192.168.4.1")
    assert wishes.gpio == Lamps("traffic-light-instance-01", {"red": 25, "green": 23})
    assert wishes.ports == Ports(11000, 11002, 11004)


def test_secrets_are_not_shown() -> None:
    wishes, _ = read(f"{GOOD}wifi: {{country: DE, name: home, password: hush-hush}}\n".encode())
    assert TOKEN not in repr(wishes)
    assert "hush-hush" not in repr(wishes)


@pytest.mark.parametrize(
    "line",
    [
        "  password hush-hush",
        "  password: *hush-hush",
        "  password: &hush-hush-hush [",
        "  password: 'hush-hush",
        "  hush-hush",
        "  password:\thush-hush: x: y",
    ],
)
def test_secrets_are_not_repeated_where_their_line_is_wrong(line: str) -> None:
    found = faults(f"{GOOD}wifi:\n  country: DE\n  name: home\n{line}\n")
    assert found
    assert not any("hush" in each for each in found), found


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_images_own_file_lacks_cloud_and_token_only(ending: str) -> None:
    text = TEMPLATE.read_text().replace("\n", ending)
    line = {name: next(n for n, each in enumerate(text.splitlines(), 1) if each.startswith(f"{name}:")) for name in ("cloud", "token")}
    assert [(each.line, each.text.partition(":")[0]) for each in read(text.encode())[1]] == [
        (line["cloud"], "cloud"),
        (line["token"], "token"),
    ]


def test_the_images_own_file_with_every_example_taken() -> None:
    text = (
        TEMPLATE.read_text()
        .replace("cloud:\n", "cloud: 10.1.2.3\n")
        .replace("token:\n", f"token: {TOKEN}\n")
        .replace("AAAA...", KEY.split()[1])
    )
    taken = "\n".join(
        line[1:] if line.startswith("#") and (not line.startswith("# ") or line.startswith("#  ")) else line for line in text.splitlines()
    )
    wishes, found = read(taken.encode())
    assert found == []
    assert wishes is not None
    assert wishes.labels
    assert wishes.wifi is not None
    assert wishes.gpio is not None
    assert wishes.ssh_key


def test_windows_writes_a_mark_at_the_beginning() -> None:
    assert read(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())[1] == []


@pytest.mark.parametrize("cloud", ["cloud.example.org", "cloud:10443", "10.0.0.1:10000", "[fd00::1]", "[fd00::1]:10000"])
def test_addresses(cloud: str) -> None:
    wishes, found = read(f'cloud: "{cloud}"\ntoken: {TOKEN}\n'.encode())
    assert found == []
    assert wishes is not None
    assert wishes.cloud == cloud


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"cloud: https://10.0.0.1\ntoken: {TOKEN}\n", "line 1: cloud: expected HOST"),
        (f"cloud: 10.0.0.1:99999\ntoken: {TOKEN}\n", "line 1: cloud: expected HOST"),
        (f"token: {TOKEN}\n", "cloud: nothing is written here"),
        ("cloud: a\ntoken: abc\n", "line 2: token: expected four parts"),
        (f"cloud: a\ntoken: {TOKEN[:-6]}\n" + TOKEN[-6:], "line 3: expected NAME: VALUE"),
        (f"cloud: a\ntoken: {TOKEN[:80]}", "line 2: token: expected four parts"),
        (f"{GOOD}node: My_Pi\n", "line 3: node: expected lower-case letters"),
        (f"{GOOD}nod: pi\n", "line 3: 'nod' is not known here"),
        (f"{GOOD}Node: pi\n", "did you mean node?"),
        (f"{GOOD}ssh_key: {KEY}\n", "did you mean ssh-key?"),
        (f"{GOOD}token: {TOKEN}\n", "line 3: token: stands here a second time"),
        (f"{GOOD}labels: greenhouse\n", "line 3: labels: expected lines NAME: VALUE"),
        (f"{GOOD}labels:\n  place: green house\n", "line 4: labels: place: expected at most 63"),
        (f"{GOOD}labels:\n  -x: y\n", "line 4: labels: '-x' is no label"),
        (f"{GOOD}wifi:\n\tname: home\n", "line 4: a tab; indent with blanks"),
        (f"{GOOD}wifi:\n  country: de\n  name: home\n", "line 4: wifi: country: expected the two capital letters"),
        (f"{GOOD}wifi:\n  country: DE\n", "line 4: wifi: name: expected the network's name"),
        (f"{GOOD}wifi:\n  country: DE\n  name: home\n  password: short\n", "line 6: wifi: password: expected 8 to 63 characters"),
        (f"{GOOD}ssh-key: ssh-ed25519\n", "line 3: ssh-key: expected a public key"),
        (f"{GOOD}ssh-key: -----BEGIN OPENSSH PRIVATE KEY-----\n", "this is a private key"),
        (f"{GOOD}gpio: {{device: a, pins: {{red: 99}}}}\n", "line 3: gpio: pins: expected LAMP: NUMBER"),
        (f"{GOOD}gpio:\n  device: a\n", "gpio: pins: expected lines"),
        (f"{GOOD}gpio:\n  device: a\n  pins:\n", "line 5: gpio: pins: expected lines LAMP: NUMBER"),
        (f"{GOOD}gpio: {{device: a, pins: {{red: 17}}}}\n", "line 3: gpio: pins: expected LAMP: NUMBER with a number of wiringPi"),
        (f"{GOOD}gpio: {{device: a, pins: {{red: 1, green: 1}}}}\n", "line 3: gpio: pins: green: another lamp is on pin 1 already"),
        (f"{GOOD}ports: {{hub: many}}\n", "line 3: ports: hub: expected a number"),
        (f'{GOOD}node: "pi\n', "a quotation mark that is not closed"),
        (f"{GOOD}node:pi\n", "line 3: cannot be understood"),
        (f"{GOOD}node: {'n' * 65}\n", "line 3: node: expected at most 64 characters, not 65"),
        (f"{GOOD}node\n", "line 3: expected NAME: VALUE, node: VALUE; is a colon missing"),
        (f"{GOOD}gpio: {{device: a, pins: {{red: {'9' * 5000}}}}}\n", "line 3: gpio: pins: expected LAMP: NUMBER"),
        ("[" * 5000, "the file cannot be read"),
        ("- a\n- b\n", "line 1: the file: expected lines NAME: VALUE"),
        ("", "cloud: nothing is written here"),
        (f"{GOOD}node: !!python/object:os.system pi\n", ""),
        (f"cloud: &a a\ntoken: {TOKEN}\nnode: *b\n", "line 3: cannot be understood"),
    ],
)
def test_every_fault_has_a_line_and_what_to_write(text: str, told: str) -> None:
    found = faults(text)
    assert any(told in each for each in found) if told else read(text.encode())[0] is not None, found


def test_all_faults_at_once_in_the_order_of_the_lines() -> None:
    lines = [each.line for each in read(b"cloud: a b\ntoken: x\nnode: Y\nlabels: z\nports: {hub: 0}\n")[1]]
    assert lines == [1, 2, 3, 4, 5]


def test_a_file_that_was_not_written_to_its_end() -> None:
    raw = (GOOD + "node: pi-1\n").encode()
    wishes, found = read(raw + b"\0" * 512)
    assert wishes is None
    assert found[0].line == 4
    assert "damaged from here" in found[0].text


def test_another_encoding_and_no_text_at_all() -> None:
    assert "UTF-8" in str(read(f"{GOOD}node: ü\n".encode("latin-1"))[1][0])
    assert "UTF-16" in str(read(GOOD.encode("utf-16"))[1][0])
    assert "bytes; expected a few lines" in str(read(b"x" * (LIMIT + 1))[1][0])


@given(st.integers(0, len(GOOD) - 1))
def test_any_half_of_the_file_is_refused(end: int) -> None:
    wishes, found = read(GOOD[:end].rstrip("\n").encode())
    if wishes is not None:  # the token's last part may end early: the cloud finds that
        assert wishes.token.count(".") == 3
    else:
        assert found


@given(st.binary(max_size=300))
def test_whatever_is_there_has_an_answer(raw: bytes) -> None:
    wishes, found = read(raw)
    assert (wishes is None) == bool(found)
    assert all(str(each) for each in found)
