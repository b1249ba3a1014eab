"""Prints the licences of what is linked into the binary: each text once, with the packages that it comes with.

    licences.py TRIPLE

Fails if a package comes without one."""

import json
import pathlib
import re
import subprocess
import sys

NAMES = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


def linked(metadata):
    """The packages that the binary is made of, not those that only build or test it."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, waiting = set(), [metadata["resolve"]["root"]]
    while waiting:
        package = waiting.pop()
        if package not in found:
            found.add(package)
            waiting += [
                dependency["pkg"]
                for dependency in nodes[package]["deps"]
                if any(kind["kind"] is None for kind in dependency["dep_kinds"])
            ]
    return [package for package in metadata["packages"] if package["id"] in found]


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", sys.argv[1]]
    packages = linked(json.loads(subprocess.check_output(command)))
    texts = {}
    for package in sorted(packages, key=lambda package: (package["name"], package["version"])):
        folder = pathlib.Path(package["manifest_path"]).parent
        if package["source"] is None:
            continue  # our own
        # Some have a folder of them.
        files = sorted(
            file for named in folder.iterdir() if NAMES.match(named.name) for file in [named, *named.rglob("*")] if file.is_file()
        )
        if not files:
            sys.exit(f"{package['name']} {package['version']} comes without its licence")
        for file in files:
            text = file.read_text(encoding="utf-8", errors="replace").strip()
            texts.setdefault(text, []).append(f"{package['name']} {package['version']} ({package['license']})")
    print("vetwatch contains these packages. Each text stands once, after the packages that it comes with.")
    for text, users in sorted(texts.items(), key=lambda entry: entry[1]):
        print("\n" + "=" * 78 + "\n" + "\n".join(dict.fromkeys(users)) + "\n" + "-" * 78 + f"\n{text}")


main()
