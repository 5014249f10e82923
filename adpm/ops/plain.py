"""A directory as PEFT or AdapterHub saved it, without an ``adapter.yaml``: what it holds as a package."""

from __future__ import annotations

from pathlib import Path

from packaging.version import Version

from adpm import limits
from adpm.core.files import MANIFEST_FILE
from adpm.core.manifest import BaseSource, Manifest, PackageHeader
from adpm.core.names import Digest, PackageName
from adpm.formats.card import read_card
from adpm.formats.pickles import unpickle
from adpm.formats.plain import CONFIG, README, plain_card, plain_files, read_config
from adpm.formats.resave import resave
from adpm.ops.package import PackageDirectory
from adpm.store.files import read_bounded

__all__ = ["is_plain", "plain_package"]


def is_plain(root: Path) -> bool:
    """Whether ``root`` holds an adapter that nobody described for adpm."""
    return (root / CONFIG).is_file() and not (root / MANIFEST_FILE).exists()


def plain_package(root: Path, name: PackageName, version: Version, work: Path) -> PackageDirectory:
    """``root`` as the package ``name``; the rest of its header is from its config and its README's front matter.

    Pickled weights are converted into ``work``, which must outlive the package, and its description says so. Raises
    ``DocumentError`` (``adapter-config-invalid``), ``AdapterError`` (``adapter-files-missing``, ``pickle-refused``),
    ``UsageError`` (``extra-missing``).
    """
    names = {entry.name for entry in root.iterdir() if entry.is_file() and not entry.is_symlink()}
    config = read_config(read_bounded(root / CONFIG, limits.CONFIG_BYTES), f"{root / CONFIG}")
    readme = read_bounded(root / README, limits.CONFIG_BYTES) if README in names else b""
    chosen = plain_files(names, config, str(root))
    pickles = {origin: (root / origin).read_bytes() for origin in chosen.values() if origin.endswith(".bin")}
    made = unpickle(pickles, source=str(root)) if pickles else {}
    files = {}
    for path, origin in chosen.items():
        files[path] = root / origin
        if origin in made:
            files[path] = work / path
            files[path].write_bytes(resave(made[origin], source=f"{root}/{origin}"))
    sums = {origin: Digest.of(data) for origin, data in pickles.items()}
    card = read_card(plain_card(name, version, config, readme, sums), f"the card made of {root}")
    header = PackageHeader(
        name=name,
        version=version,
        description=card.description,
        task=card.task,
        language=card.language,
        license=card.license,
        metrics=card.metrics,
    )
    base = None if card.base.model is None else BaseSource(card.base.model, card.base.revision)
    return PackageDirectory(root, header, Manifest(base=base, package=header), dict(sorted(files.items())))
