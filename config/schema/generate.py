#!/usr/bin/env python3
"""Writes kubernetes.txt: which fields Kubernetes and Gateway API know, and of what type.

usage: generate.py K8S_OPENAPI_SRC/vX_YY GATEWAY_API_SRC/apis/experimental > kubernetes.txt

Both are source folders of the crates k8s-openapi and gateway-api, which are generated from the published
OpenAPI documents. They are read here once instead of being linked into the daemon: see
docs/decisions/0003-field-tables.md. One line per type: NAME FIELD:TYPE..., `!` marks a required field.
"""
import re
import sys
from pathlib import Path

core, gateway = Path(sys.argv[1]), Path(sys.argv[2])
roots = {
    "Namespace": "api/core/v1/namespace",
    "ServiceAccount": "api/core/v1/service_account",
    "Pod": "api/core/v1/pod",
    "Service": "api/core/v1/service",
    "EndpointSlice": "api/discovery/v1/endpoint_slice",
    "NetworkPolicy": "api/networking/v1/network_policy",
}
plain = {
    "std::string::String": "string", "String": "string", "bool": "bool", "i32": "int", "i64": "int", "f64": "number",
    "crate::ByteString": "string", "serde_json::Value": "any", "crate::serde_json::Value": "any",
}
named = {"Quantity": "quantity", "IntOrString": "int-or-string", "Time": "time", "MicroTime": "time", "FieldsV1": "any"}
types = {}


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def lower(rust, follow):
    rust = rust.strip().removeprefix("r#")
    for outer, form in (("Option<", "{}"), ("std::boxed::Box<", "{}"), ("Box<", "{}"), ("std::vec::Vec<", "[{}]"), ("Vec<", "[{}]")):
        if rust.startswith(outer):
            return form.format(lower(rust[len(outer):-1], follow))
    if match := re.match(r"(?:std::collections::)?BTreeMap<(?:std::string::)?String, (.*)>$", rust):
        return "{" + lower(match[1], follow) + "}"
    if rust in plain:
        return plain[rust]
    last = rust.split("::")[-1]
    return named.get(last) or follow(rust, last)


def core_type(rust, name):
    def follow(rust, last):
        path = [part.removeprefix("r#") for part in rust.removeprefix("crate::").split("::")]
        # Re-exports leave the file's name out.
        core_file(last, "/".join(path[:-1]))
        return last
    return lower(rust, follow)


def core_file(name, where):
    folder = core / where
    for candidate in folder.rglob("*.rs"):
        text = candidate.read_text()
        if re.search(rf"^pub struct {name} \{{", text, re.M):
            break
    else:
        raise SystemExit(f"no struct {name} under {folder}")
    origin = str(candidate)
    if name in types:
        assert types[name][0] == origin, f"two types are called {name}: {origin}"
        return
    types[name] = (origin, [])
    keys = dict((rust, json) for json, rust in re.findall(r'"([A-Za-z0-9$]+)" => Field::Key_(\w+)', text))
    body = re.search(rf"^pub struct {name} \{{(.*?)^\}}", text, re.M | re.S)[1]
    fields = [("apiVersion", "string!"), ("kind", "string!")] if name in roots else []
    for field, rust in re.findall(r"^    pub (\S+): (.*),$", body, re.M):
        required = "" if rust.startswith("Option<") or name in roots or rust.startswith("std::vec::Vec<") and name.endswith("Status") else "!"
        fields.append((keys[field.removeprefix("r#")], core_type(rust, name) + required))
    types[name][1].extend(fields)


def gateway_kind(file, prefix, kind):
    text = (gateway / file).read_text()
    structs = dict(re.findall(r"^pub struct (\w+) \{(.*?)^\}", text, re.M | re.S))
    enums = set(re.findall(r"^pub enum (\w+)", text, re.M))

    def follow(rust, last):
        if last in enums:
            return "string"
        if last == "Condition":
            core_file("Condition", "apimachinery/pkg/apis/meta/v1")
            return last
        visit(last)
        return last

    def visit(name):
        if name in types:
            return
        types[name] = (file, [])
        pattern = r"^    (?:#\[serde\((?P<serde>[^\n]*)\)\]\n    )?(?:#\[[^\n]*\]\n    )*pub (?P<name>[^\n:]+): (?P<type>[^\n]*),$"
        for match in re.finditer(pattern, structs[name], re.M):
            rename = re.search(r'rename = "(\w+)"', match["serde"] or "")
            json = rename[1] if rename else match["name"].removeprefix("r#").rstrip("_")
            required = "" if match["type"].startswith("Option<") else "!"
            types[name][1].append((json, lower(match["type"], follow) + required))

    fields = [("apiVersion", "string!"), ("kind", "string!"), ("metadata", "ObjectMeta")]
    for field, required in (("spec", "!"), ("status", "")):
        name = prefix + field.capitalize()
        if name in structs:
            visit(name)
            fields.append((field, name + required))
    types[kind] = ("", fields)


for root, where in roots.items():
    core_file(root, str(Path(where).parent))
gateway_kind("httproutes.rs", "HttpRoute", "HTTPRoute")
gateway_kind("grpcroutes.rs", "GrpcRoute", "GRPCRoute")
gateway_kind("referencegrants.rs", "ReferenceGrant", "ReferenceGrant")
print(f"# Written by generate.py from k8s-openapi {core.name} and gateway-api (experimental channel, a superset). Do not edit.")
for name in sorted(types):
    print(" ".join([name] + sorted(f"{field}:{kind}" for field, kind in types[name][1])))
