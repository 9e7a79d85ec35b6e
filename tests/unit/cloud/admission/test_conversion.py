"""Nothing of a device or a model is lost between the versions, whichever one it is written in."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.cloud.admission.conversion import GROUP, convert
from pinnace.cloud.admission.residue import V1ALPHA1, V1BETA1
from pinnace.cloud.admission.server import review
from pinnace.cloud.ports import Object

SAMPLES = Path(__file__).resolve().parents[4] / "build" / "samples"
NAMES = st.sampled_from(["red", "yellow", "green", "temperature"])
TEXT = st.text("abcXYZ0159 -", min_size=1, max_size=6)
VALUE = st.fixed_dictionaries({"value": TEXT}, optional={"metadata": st.dictionaries(st.sampled_from(["type", "timestamp"]), TEXT)})


def some(**parts: Any) -> st.SearchStrategy[Object]:
    """An object with any of these parts."""
    return st.fixed_dictionaries({}, optional=parts)


def unique(entries: st.SearchStrategy[Object], key: str) -> st.SearchStrategy[list[Object]]:
    return st.lists(entries, max_size=4, unique_by=lambda each: each[key])


CONFIG = st.dictionaries(st.sampled_from(["ip", "port", "slaveID", "url", "baudRate"]), st.one_of(TEXT, st.integers(0, 99)), max_size=3)
METADATA = st.fixed_dictionaries(
    {"name": st.just("d"), "namespace": st.just("default")},
    optional={"labels": st.dictionaries(NAMES, TEXT, max_size=2), "annotations": st.dictionaries(st.just("note"), TEXT, min_size=1)},
)
EXPRESSION = st.fixed_dictionaries(
    {"key": st.sampled_from(["hostname", "kubernetes.io/hostname"]), "operator": st.sampled_from(["In", "Exists"])},
    optional={"values": st.lists(TEXT, max_size=2)},
)
SELECTOR = some(nodeSelectorTerms=st.lists(some(matchExpressions=st.lists(EXPRESSION, max_size=2)), max_size=2))
OLD_PROTOCOL = st.one_of(
    st.just({}),
    st.builds(lambda config: {"modbus": {"tcp": config}}, CONFIG),
    st.builds(lambda config: {"modbus": {"rtu": config}}, CONFIG),
    st.builds(lambda config: {"opcua": config}, CONFIG),
    st.builds(lambda config: {"bluetooth": config}, CONFIG),
    st.just({"unheard-of": {"of": 1}}),
)
OLD_TWIN = st.fixed_dictionaries({"propertyName": NAMES}, optional={"desired": VALUE, "reported": VALUE})
OLD_DEVICE = st.fixed_dictionaries(
    {"apiVersion": st.just(f"{GROUP}/v1alpha1"), "kind": st.just("Device"), "metadata": METADATA},
    optional={
        "spec": some(deviceModelRef=st.just({"name": "m"}), nodeSelector=SELECTOR, protocol=OLD_PROTOCOL),
        "status": some(twins=unique(OLD_TWIN, "propertyName"), state=TEXT),
    },
)
PROTOCOL = some(protocolName=st.sampled_from(["modbus-tcp", "modbus-rtu", "modbus", "opcua", "gpio"]), configData=CONFIG)
PROPERTY = st.fixed_dictionaries(
    {"name": NAMES},
    optional={"desired": VALUE, "visitors": PROTOCOL, "reportCycle": st.integers(0, 9), "reportToCloud": st.booleans()},
)
NEW_TWIN = st.fixed_dictionaries({"propertyName": NAMES}, optional={"reported": VALUE, "observedDesired": VALUE})
NEW_DEVICE = st.fixed_dictionaries(
    {"apiVersion": st.just(f"{GROUP}/v1beta1"), "kind": st.just("Device"), "metadata": METADATA},
    optional={
        "spec": some(
            deviceModelRef=st.just({"name": "m"}), nodeName=st.sampled_from(["", "n1"]), protocol=PROTOCOL,
            properties=unique(PROPERTY, "name"), methods=st.just([{"name": "go"}]),
        ),
        "status": some(twins=unique(NEW_TWIN, "propertyName"), state=TEXT),
    },
)  # fmt: skip
BOUNDS = some(accessMode=st.just("ReadWrite"), defaultValue=st.integers(0, 5), minimum=st.integers(0, 5), unit=TEXT)
OLD_TYPE = st.one_of(
    st.builds(lambda part: {"int": part}, BOUNDS),
    st.builds(lambda part: {"string": part}, some(accessMode=st.just("ReadOnly"), defaultValue=TEXT)),
    st.builds(lambda part: {"double": part}, BOUNDS),
    st.just({}),
)
OLD_MODEL = st.fixed_dictionaries(
    {"apiVersion": st.just(f"{GROUP}/v1alpha1"), "kind": st.just("DeviceModel"), "metadata": METADATA},
    optional={
        "spec": some(
            properties=unique(st.fixed_dictionaries({"name": NAMES}, optional={"description": TEXT, "type": OLD_TYPE}), "name"),
            propertyVisitors=st.just([{"propertyName": "red", "modbus": {"register": "CoilRegister"}}]),
        )
    },
)
NEW_MODEL = st.fixed_dictionaries(
    {"apiVersion": st.just(f"{GROUP}/v1beta1"), "kind": st.just("DeviceModel"), "metadata": METADATA},
    optional={
        "spec": some(
            protocol=TEXT,
            properties=unique(
                st.fixed_dictionaries(
                    {"name": NAMES},
                    optional={
                        "type": st.sampled_from(["INT", "STRING", "STREAM", "BOOLEAN", "FLOAT"]), "accessMode": st.just("ReadOnly"),
                        "minimum": st.sampled_from(["0", "5", "5.0", "no number"]), "unit": TEXT, "visitors": PROTOCOL,
                    },
                ),
                "name",
            ),
        )
    },
)  # fmt: skip


def there_and_back(obj: Object) -> Object:
    """Through the other version, by way of JSON as between two processes."""
    given = copy.deepcopy(obj)
    version = obj["apiVersion"].removeprefix(f"{GROUP}/")
    other = "v1beta1" if version == "v1alpha1" else "v1alpha1"
    between = orjson.loads(orjson.dumps(convert(obj, other)))
    assert obj == given, "the object that was given is left alone"
    assert between["apiVersion"] == f"{GROUP}/{other}"
    assert {key: between["metadata"].get(key) for key in ("name", "namespace", "labels")} == {
        key: obj["metadata"].get(key) for key in ("name", "namespace", "labels")
    }
    return plain(convert(between, version))


def plain(obj: Object) -> Object:
    """Without the annotations in which the other version's share is kept. v1beta1's twins are a map by name, in any order."""
    metadata = dict(obj["metadata"])
    annotations = {key: value for key, value in metadata.pop("annotations", {}).items() if key not in {V1ALPHA1, V1BETA1}}
    if obj["apiVersion"].endswith("/v1beta1") and (obj.get("status") or {}).get("twins"):
        obj = {**obj, "status": obj["status"] | {"twins": sorted(obj["status"]["twins"], key=lambda each: str(each["propertyName"]))}}
    return {**obj, "metadata": metadata | ({"annotations": annotations} if annotations else {})}


@given(st.one_of(OLD_DEVICE, NEW_DEVICE, OLD_MODEL, NEW_MODEL))
@settings(max_examples=300, deadline=None)
def test_a_round_trip_changes_nothing(obj: Object) -> None:
    assert there_and_back(obj) == plain(obj)


@pytest.mark.parametrize("name", ["traffic-light", "dyson-fan"])
@pytest.mark.parametrize("part", ["model", "instance"])
def test_samples_make_the_round_trip(name: str, part: str) -> None:
    obj = yaml.safe_load((SAMPLES / name / f"{part}.yaml").read_text())
    assert there_and_back(obj) == obj


def light() -> Object:
    loaded: Object = yaml.safe_load((SAMPLES / "traffic-light" / "instance.yaml").read_text())
    return loaded


def test_a_desired_value_changed_in_the_new_version_is_seen_in_the_old() -> None:
    new = convert(light(), "v1beta1")
    new["spec"]["properties"][0]["desired"]["value"] = "ON"
    old = convert(new, "v1alpha1")
    assert [each["desired"]["value"] for each in old["status"]["twins"]] == ["ON", "OFF", "OFF"]
    assert old["spec"] == light()["spec"]


def test_a_desired_value_changed_in_the_old_version_keeps_what_the_new_one_says_besides() -> None:
    new = convert(light(), "v1beta1")
    new["spec"]["properties"][0] |= {"visitors": {"protocolName": "gpio", "configData": {"pin": 25}}, "reportCycle": 1000}
    old = convert(new, "v1alpha1")
    old["status"]["twins"][0]["desired"]["value"] = "ON"
    again = convert(old, "v1beta1")
    assert again["spec"]["properties"][0] == new["spec"]["properties"][0] | {"desired": {"metadata": {"type": "string"}, "value": "ON"}}


def test_a_node_named_in_the_new_version_replaces_the_selector() -> None:
    new = convert(light(), "v1beta1")
    assert new["spec"]["nodeName"] == "192.168.4.22-pi2"
    new["spec"]["nodeName"] = "another"
    old = convert(new, "v1alpha1")
    (term,) = old["spec"]["nodeSelector"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["another"]}]
    assert convert(old, "v1beta1")["spec"]["nodeName"] == "another"


def test_a_twin_taken_away_in_the_old_version_is_gone_in_the_new() -> None:
    old = light()
    new = convert(old, "v1beta1")
    seen = convert(new, "v1alpha1")
    del seen["status"]["twins"][1]
    again = convert(seen, "v1beta1")
    assert [each["name"] for each in again["spec"]["properties"]] == ["red", "green"]
    assert [each["propertyName"] for each in again["status"]["twins"]] == ["red", "green"]


def test_a_default_value_survives_and_follows_its_type() -> None:
    model = yaml.safe_load((SAMPLES / "traffic-light" / "model.yaml").read_text())
    new = convert(model, "v1beta1")
    assert new["spec"]["properties"][3] == {
        "name": "red-pin-number", "description": "Indicates red led pin number", "type": "INT", "accessMode": "ReadOnly",
    }  # fmt: skip
    new["spec"]["properties"][3]["accessMode"] = "ReadWrite"
    assert convert(new, "v1alpha1")["spec"]["properties"][3]["type"] == {"int": {"accessMode": "ReadWrite"}}


def test_a_spoiled_annotation_is_no_obstacle() -> None:
    new = convert(light(), "v1beta1")
    for spoiled in ("{", "[]", '"text"'):
        new["metadata"]["annotations"][V1ALPHA1] = spoiled
        old = convert(new, "v1alpha1")
        assert len(old["status"]["twins"]) == 3
        assert V1ALPHA1 not in old["metadata"]["annotations"]


def test_annotations_are_added_only_when_there_is_something_to_keep() -> None:
    plain = {
        "apiVersion": f"{GROUP}/v1beta1", "kind": "Device", "metadata": {"name": "d", "namespace": "default"},
        "spec": {"properties": [{"name": "red", "reportToCloud": True}]},
    }  # fmt: skip
    old = convert(plain, "v1alpha1")
    assert V1BETA1 not in old["metadata"].get("annotations", {})


def test_a_review_converts_all_or_says_why_not() -> None:
    request = {"uid": "u", "desiredAPIVersion": f"{GROUP}/v1beta1", "objects": [light(), light()]}
    response = orjson.loads(review(orjson.dumps({"request": request})))["response"]
    assert response["uid"] == "u"
    assert response["result"] == {"status": "Success"}
    assert [each["apiVersion"] for each in response["convertedObjects"]] == [f"{GROUP}/v1beta1"] * 2
    for broken in (light() | {"kind": "Lamp"}, light() | {"apiVersion": f"{GROUP}/v9"}, {"kind": "Device"}):
        answer = orjson.loads(review(orjson.dumps({"request": request | {"objects": [light(), broken]}})))["response"]
        assert answer["result"]["status"] == "Failure"
        assert answer["convertedObjects"] == []
    with pytest.raises(ValueError, match="no ConversionReview"):
        review(b"{}")
