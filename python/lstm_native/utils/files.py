"""get_file: files from the net, kept for the next time. Floor 4."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_CHUNK = 1 << 20


def get_file(
    fname: str | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
) -> str:
    """The path of a file, which is downloaded where it is not there yet.

    Args:
        fname: its name; that of the address by default.
        origin: address to load it from.
        untar, extract: unpacks a .zip or .tar archive beside it; the path is that of the folder then, the
            name of the archive with "_extracted" behind.
        md5_hash, file_hash: what the file is checked against; MD5 or SHA-256, in hexadecimal digits.
        cache_subdir: folder below `cache_dir` (default "datasets").
        hash_algorithm: "md5", "sha256" or "auto", by the number of digits.
        archive_format: "tar", "zip" or "auto", by what the file is.
        cache_dir: default the environment variable KERAS_HOME, else ~/.keras, where Keras keeps its own.
        force_download: loads it even if it is there.

    Returns:
        The path of the file, or of the folder.

    Raises:
        ValueError: no `origin`, or a file that does not fit its hash.
        OSError: the address cannot be reached.
    """
    if origin is None:
        raise ValueError("get_file: origin is missing, the address to load the file from")
    name = fname or origin.rpartition("/")[2]
    if name == ".." or not name or Path(name).name != name:
        raise ValueError(f"get_file: fname is {fname!r}, expected a name without folders")
    home = Path(cache_dir or os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
    folder = home / cache_subdir
    folder.mkdir(parents=True, exist_ok=True)
    path, wanted = folder / name, file_hash or md5_hash
    if force_download or not path.is_file() or (wanted and _hash(path, wanted, hash_algorithm) != wanted):
        _download(origin, path)
        if wanted and _hash(path, wanted, hash_algorithm) != wanted:
            found = _hash(path, wanted, hash_algorithm)
            path.unlink()
            raise ValueError(f"get_file: {origin} gave a file with the hash {found}, expected {wanted}")
    return str(_unpacked(path, archive_format)) if untar or extract else str(path)


def _hash(path: Path, wanted: str, algorithm: str) -> str:
    import hashlib  # not at the top: few programs come here

    short = len(wanted) == 32 if algorithm == "auto" else algorithm == "md5"
    digest = hashlib.md5(usedforsecurity=False) if short else hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(origin: str, path: Path) -> None:
    import urllib.request

    print(f"Downloading data from {origin}", flush=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            with urllib.request.urlopen(origin) as source:
                while chunk := source.read(_CHUNK):
                    file.write(chunk)
        except BaseException:
            file.close()
            os.unlink(file.name)
            raise
    os.replace(file.name, path)


def _unpacked(path: Path, archive_format: str) -> Path:
    import tarfile
    import zipfile

    folder = path.with_name(f"{path.name}_extracted")
    if archive_format in ("auto", "zip") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)  # which drops ".." and leading slashes
    elif archive_format in ("auto", "tar") and tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    else:
        raise ValueError(f"get_file: {path} is no archive that can be unpacked, expected .zip or .tar")
    return folder
