"""Licenses, banned crates and sources of deny.toml, for machines without cargo-deny: reads `cargo metadata`."""

import json
import re
import subprocess
import sys
import tomllib

with open("deny.toml", "rb") as file:
    rules = tomllib.load(file)
allowed = set(rules["licenses"]["allow"])
banned = {entry["name"]: entry["reason"] for entry in rules["bans"]["deny"]}


def acceptable(expression: str) -> bool:
    """Whether an SPDX expression can be met with allowed licenses. `/` is an old way to write OR."""
    expression = expression.replace("/", " OR ")
    tokens = re.findall(r"[()]|[^\s()]+", expression)
    words, skip = [], False
    for token in tokens:
        if skip:
            skip = False
        elif token == "WITH":
            skip = True
        elif token in ("(", ")"):
            words.append(token)
        elif token in ("AND", "OR"):
            words.append(token.lower())
        else:
            words.append(str(token in allowed))
    return bool(eval(" ".join(words), {"__builtins__": {}}))


problems = []
packages = {}
for target in rules["graph"]["targets"]:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    # From the program on: what only the fuzz targets use is not part of it.
    uses = {node["id"]: node["dependencies"] for node in metadata["resolve"]["nodes"]}
    wanted, waiting = set(), [metadata["resolve"]["root"]]
    while waiting:
        package = waiting.pop()
        if package not in wanted:
            wanted.add(package)
            waiting += uses[package]
    packages |= {package["id"]: package for package in metadata["packages"] if package["id"] in wanted}
for package in packages.values():
    name = f"{package['name']} {package['version']}"
    if package["name"] in banned:
        problems.append(f"{name} is banned: {banned[package['name']]}")
    if package["source"] not in (None, "registry+https://github.com/rust-lang/crates.io-index"):
        problems.append(f"{name} comes from {package['source']}")
    if not acceptable(package["license"] or "none"):
        problems.append(f"{name} has the license {package['license']}")
print(f"{len(packages)} crates")
for problem in problems:
    print(problem)
sys.exit(bool(problems))
