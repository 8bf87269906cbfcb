"""`make vendor`: takes the console's styles and scripts from the npm registry, if they are what is pinned here.

To take another version, change its number, and the digest to what `npm view NAME@VERSION dist.integrity` prints.
"""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / "relay" / "console" / "static" / "vendor"


@dataclass(frozen=True, slots=True)
class Vendored:
    """A package of the npm registry, and which of its files the console has."""

    name: str
    version: str
    integrity: str
    files: dict[str, str]
    """The name of each file in FOLDER, by its path in the package."""


PACKAGES: Final = (
    Vendored(
        "htmx.org",
        "4.0.1",
        "sha512-oF7JgXhDW9UXCy/k1ZYFUQgzu/rm19ORWPSPNL91vPluB2PB9+MV55tyQdH/w7o2EAbTYUG5SDW1R60mdkdqGg==",
        {"dist/htmx.min.js": "htmx.min.js", "dist/ext/hx-sse.min.js": "hx-sse.min.js", "LICENSE": "LICENSE.htmx"},
    ),
    Vendored(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {
            "dist/uPlot.iife.min.js": "uPlot.iife.min.js",
            "dist/uPlot.min.css": "uPlot.min.css",
            "LICENSE": "LICENSE.uPlot",
        },
    ),
    Vendored(
        "@picocss/pico",
        "2.1.1",
        "sha512-kIDugA7Ps4U+2BHxiNHmvgPIQDWPDU4IeU6TNRdvXQM1uZX+FibqDQT2xUOnnO2yq/LUHcwnGlu1hvf4KfXnMg==",
        {"css/pico.min.css": "pico.min.css", "LICENSE.md": "LICENSE.pico"},
    ),
)


def main() -> None:
    """Write FOLDER anew."""
    found = {name: content for package in PACKAGES for name, content in fetch(package).items()}
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for name, content in found.items():
        (FOLDER / name).write_bytes(content)


def fetch(package: Vendored) -> dict[str, bytes]:
    """Return the files of a package. Ends the program if the package is not what is pinned."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).iterdir()
        packed = archive.read_bytes()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
    if digest != package.integrity:
        raise SystemExit(f"{package.name} {package.version} is not what is pinned: its digest is {digest}")
    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
        return {name: read(opened, f"package/{path}") for path, name in package.files.items()}


def read(opened: tarfile.TarFile, path: str) -> bytes:
    """Return a file of an archive."""
    content = opened.extractfile(path)
    assert content is not None, path
    return content.read()


if __name__ == "__main__":
    main()
