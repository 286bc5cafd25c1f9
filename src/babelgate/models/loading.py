"""Loading a model from the hub, a folder, a GGUF file or the demo cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError

from ..errors import ModelError, did_you_mean
from .blocks import text_config
from .chat import ChatModel
from .demo import DEMO_MODELS, demo_folder
from .gguf import converted
from .memory import keep_freed_memory
from .template import PLAIN_TEMPLATE, ChatTemplate

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

# What transformers raises for files that are absent, damaged or of an unknown kind.
_FAILURES = (
    OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, SafetensorError
)  # fmt: skip


def load_model(
    spec: str | Path,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    blocks: str | None = None,
    chat_template: str | None = None,
) -> ChatModel:
    """Load a chat model.

    Args:
        spec: a hub id (``owner/name``), a local folder, a ``.gguf`` file, ``demo`` or ``smollm2``.
        revision: branch, tag or commit of a hub model.
        device: ``auto`` (the accelerator if there is one, sharded over several), ``cpu``, ``cuda``,
            ``cuda:1``, ``mps``.
        dtype: ``auto``, ``bfloat16``, ``float16`` or ``float32``. ``auto`` is bfloat16 where the
            device computes in it and float32 elsewhere (a processor without bfloat16 instructions
            emulates them several times slower than float32).
        blocks: dotted name of the decoder blocks, where they cannot be found by structure.
        chat_template: Jinja source or a file with it, or ``plain``.

    Raises:
        ModelError: if the model cannot be found, read or understood.
        DownloadError: if a demo model cannot be fetched.
    """
    name, folder = _resolve(str(spec))
    source = None if chat_template is None else _template_source(chat_template)
    target = _device(device)
    kind = _dtype(dtype, target)
    placement: dict[str, Any] = {"device_map": "auto" if device == "auto" else target}
    if target == "cpu":
        placement = {}
        keep_freed_memory()
    try:
        tokenizer = _pretrained("AutoTokenizer", folder, revision)
        model, info = _pretrained(
            "AutoModelForCausalLM",
            folder,
            revision,
            dtype=kind,
            output_loading_info=True,
            **placement,
        )
    except _FAILURES as error:
        raise ModelError(_explain(str(spec), error)) from error
    if lacking := sorted(info["missing_keys"]):  # transformers would go on with random ones
        raise ModelError(
            f"model {str(spec)!r} lacks {len(lacking)} of its tensors, such as {lacking[0]}; its "
            "files are incomplete or belong to another architecture"
        )
    commit = str(getattr(model.config, "_commit_hash", None) or revision or "")
    try:
        return ChatModel.wrap(
            model, tokenizer, name=name, revision=commit, blocks=blocks, chat_template=source
        )
    except TemplateError as error:
        raise ModelError(f"the chat template of {str(spec)!r} is broken: {error}") from error


def load_template(spec: str, *, revision: str | None = None) -> ChatTemplate:
    """Load a model's tokenizer alone, to count tokens without its weights.

    Raises:
        ModelError: if it cannot be found or read.
    """
    _, folder = _resolve(spec)
    try:
        return ChatTemplate(_pretrained("AutoTokenizer", folder, revision), PLAIN_TEMPLATE)
    except _FAILURES as error:
        raise ModelError(_explain(spec, error)) from error


def _template_source(given: str) -> str:
    if given == "plain":
        return PLAIN_TEMPLATE
    if os.path.isfile(given):  # unlike Path.is_file, it takes sources longer than a file name
        return Path(given).read_text(encoding="utf-8")
    if "{" not in given:
        raise ModelError(f"chat template {given!r}: no such file, and no Jinja source either")
    return given


def _resolve(spec: str) -> tuple[str, str]:
    """Return (name for people, folder or hub id)."""
    if spec in DEMO_MODELS:
        return DEMO_MODELS[spec].title, str(demo_folder(spec))
    path = Path(spec).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"model {spec!r}: no such file")
        return path.stem, str(converted(path))
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ModelError(
                f"model {spec!r}: the folder has no config.json; is it a model folder?"
            )
        return path.name, str(path)
    if spec.count("/") == 1 and not spec.startswith((".", "/", "~")):
        return spec, spec
    raise ModelError(
        f"model {spec!r} is no folder, no .gguf file, no hub id (owner/name) and none of "
        f"{', '.join(DEMO_MODELS)}.{did_you_mean(spec, list(DEMO_MODELS))}"
    )


def _pretrained(loader: str, folder: str, revision: str | None, **options: Any) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # Code and pickles from a model repository are never run.
    options |= {"trust_remote_code": False, "revision": revision or "main"}
    if loader != "AutoTokenizer":
        options["use_safetensors"] = True
    return getattr(transformers, loader).from_pretrained(folder, **options)


def _device(device: str) -> str:
    if device != "auto":
        kind = device.partition(":")[0]
        available = {
            "cpu": True,
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
        }
        if not available.get(kind, kind not in available):
            raise ModelError(f"device {device!r} is not available here; try `--device cpu`")
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(dtype: str, device: str) -> torch.dtype:
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise ModelError(f"dtype {dtype!r} is not one of auto, {', '.join(_DTYPES)}")
        return _DTYPES[dtype]
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device == "cpu":
        return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32
    return torch.float16


def _cpu_has_bfloat16() -> bool:
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def _explain(spec: str, error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    hints = {
        "trust_remote_code": "models that need code of their own are not supported",
        "safetensors": "only safetensors weights are read; convert the model first",
        "connect": "check the network, or give a local folder",
        "gated": "accept the model's licence on the hub and set HF_TOKEN",
    }
    hint = next((h for word, h in hints.items() if word in str(error).lower()), "")
    return f"model {spec!r} cannot be loaded: {text}" + (f" ({hint})" if hint else "")


def model_facts(model: ChatModel) -> dict[str, Any]:
    """Return what `babelgate models` shows of a model."""
    config = text_config(model.model.config)
    return {
        **model.identity.to_json(),
        "architecture": type(model.model).__name__,
        "parameters": sum(p.numel() for p in model.model.parameters()),
        "vocabulary": int(config.vocab_size),
        "context": model.context_length,
        "device": str(model.device),
        "template_opening_tokens": len(model.template.opening),
        "post_instruction_tokens": [model.tokenizer.decode([i]) for i in model.template.closing],
    }
