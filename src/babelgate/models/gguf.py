"""GGUF files as safetensors folders, converted once: dequantising takes most of a minute."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..artifacts import cache_dir, write_json
from ..console import note
from ..errors import ModelError, StoreError
from .download import file_sha256

_MARKER = "babelgate-conversion.json"


def converted(path: Path, *, sha256: str | None = None) -> Path:
    """Return a folder with the weights and tokenizer of a GGUF file, in bfloat16 safetensors.

    It lies in the cache under the file's sha256 (given by callers who have just checked it), and is
    renamed into place when complete, so an interrupted conversion leaves nothing behind.

    Raises:
        ModelError: if transformers cannot read the file.
        StoreError: if the cache cannot be written.
    """
    sha256 = sha256 or file_sha256(path)
    folder = cache_dir() / "gguf" / sha256[:16]
    if (folder / _MARKER).exists():
        return folder
    note(f"Converting {path.name} to safetensors (once; about a minute)")
    work = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
        _convert(path, work)
        write_json(work / _MARKER, {"source": path.name, "sha256": sha256, "dtype": "bfloat16"})
        if folder.exists():
            shutil.rmtree(folder)
        work.rename(folder)
    except OSError as error:
        raise StoreError(f"cannot write the converted model to {folder}: {error}") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _convert(path: Path, folder: Path) -> None:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    options: dict[str, Any] = {"gguf_file": path.name, "dtype": torch.bfloat16}
    # From 5.19 on, transformers keeps the packed blocks unless told otherwise.
    config = getattr(transformers, "GgufConfig", None)
    if config is not None:
        options["quantization_config"] = config(dequantize=True)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, output_loading_info=True, **options
        )
        model, info = loaded
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:  # the reader raises whatever its parser trips over
        raise ModelError(
            f"{path} cannot be read as a GGUF model: {type(error).__name__}: {error}"
        ) from error
    if lacking := sorted(info["missing_keys"]):  # transformers would go on with random ones
        raise ModelError(
            f"{path} lacks {len(lacking)} of its model's tensors, such as {lacking[0]}; the "
            "file is incomplete"
        )
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
