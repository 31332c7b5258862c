"""A folder of thousands of small files as one parquet file, unpacked once into the user's cache."""

import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from thesis_lib.datasets.labelled import cache_folder
from thesis_lib.errors import ThesisError
from thesis_lib.storage import atomic

MODIFIED = 1_767_225_600
"""Time stamp of unpacked files (2026-01-01): unpacking again must not look like new data to the crop cache."""


def pack_folder(folder: Path, file: Path) -> str:
    """Write every file below `folder` into a parquet file with columns path (relative, posix, sorted) and content.

    Returns:
        The digest of all names and contents, which the parquet file's metadata carries too.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    contents = [(folder / name).read_bytes() for name in names]
    digest = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    table = pa.table({"path": pa.array(names, pa.string()), "content": pa.array(contents, pa.binary())})
    table = table.replace_schema_metadata({"digest": digest.hexdigest()})
    with atomic(file) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=False, row_group_size=1000)
    return digest.hexdigest()


def unpack(file: Path) -> Path:
    """Unpack what `pack_folder` wrote, unless that has been done, and return the folder.

    It lies in ``$XDG_CACHE_HOME`` (else ``~/.cache``) and its name contains the content's digest. It appears whole or
    not at all, also when several processes unpack at once; one that has lost files is made anew.

    Raises:
        ThesisError: The parquet file is missing or damaged, or the cache cannot be written.
    """
    cache = cache_folder()
    try:
        with pq.ParquetFile(file) as parquet:
            folder = cache / f"{file.stem}-{parquet.schema_arrow.metadata[b'digest'].decode()[:16]}"
            if not _whole(folder, parquet):
                cache.mkdir(parents=True, exist_ok=True)
                _unpack_into(folder, parquet)
    except (FileNotFoundError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise ThesisError(f"{file} is missing or damaged ({error}): install the package again") from None
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise ThesisError(
            f"{cache}: cannot unpack {file.name} ({why}): free some space, or name another folder in XDG_CACHE_HOME"
        ) from error
    return folder


def _whole(folder: Path, parquet: pq.ParquetFile) -> bool:
    return sum(len(files) for _, _, files in os.walk(folder)) >= int(parquet.metadata.num_rows)


def _unpack_into(folder: Path, parquet: pq.ParquetFile) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with tqdm(total=parquet.metadata.num_rows, desc=f"unpack {folder.name}", unit="file", leave=False) as bar:
            for batch in parquet.iter_batches(batch_size=500):
                for name, content in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                        raise ThesisError(f"{folder.name} holds the unsafe path {name}: install the package again")
                    target = temporary / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                    os.utime(target, (MODIFIED, MODIFIED))
                bar.update(len(batch))
        if folder.is_dir() and not _whole(folder, parquet):
            shutil.rmtree(folder)
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and its folder is as good
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
