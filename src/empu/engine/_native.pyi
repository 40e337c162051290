"""The compiled engine in native/; see native_backend.py for what it promises."""

import numpy as np
import numpy.typing as npt

class Error(Exception): ...

class Model:
    def __init__(
        self,
        *,
        layers: int,
        dim: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        ffn_dim: int,
        vocabulary: int,
        norm_eps: float,
        window: int,
        tied: bool,
    ) -> None: ...
    def make(self, name: str, kind: str, rows: int, cols: int) -> None: ...
    def pack(self, name: str, first: int, count: int, type: str, data: npt.NDArray[np.uint8]) -> None: ...
    def set_norm(self, name: str, values: npt.NDArray[np.float32]) -> None: ...
    def weight_bytes(self) -> int: ...

class Adapter:
    def __init__(self, model: Model) -> None: ...
    def add(self, name: str, rank: int, a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> None: ...
    def bytes(self) -> int: ...

class Engine:
    def __init__(
        self, *, model: Model, frequencies: npt.NDArray[np.float32], threads: int, ops: str, cache_limit: int
    ) -> None: ...
    def allocate(self, capacity: int, adapter: Adapter | None = None) -> int: ...
    def release(self, sequence: int) -> None: ...
    def fork(self, sequence: int, length: int, capacity: int) -> int: ...
    def length(self, sequence: int) -> int: ...
    def truncate(self, sequence: int, length: int) -> None: ...
    def forward(
        self,
        sequences: list[int],
        tokens: list[npt.NDArray[np.int32]],
        wants: list[int],
        logits: npt.NDArray[np.float32],
    ) -> None: ...
    @property
    def logit_stride(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def ops(self) -> str: ...

class Tuner:
    def __init__(
        self,
        *,
        layers: int,
        dim: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        ffn_dim: int,
        norm_eps: float,
        rank: int,
        scale: float,
        adapted: list[bool],
        rounded: bool,
        threads: int,
        ops: str,
    ) -> None: ...
    def set_weight(self, layer: int, target: int, values: npt.NDArray[np.float32]) -> None: ...
    def set_norms(self, layer: int, attention: npt.NDArray[np.float32], ffn: npt.NDArray[np.float32]) -> None: ...
    @property
    def parameters(self) -> int: ...
    def forward(
        self,
        x: npt.NDArray[np.float32],
        cosines: npt.NDArray[np.float32],
        sines: npt.NDArray[np.float32],
        prefix: int,
        lengths: list[int],
        parameters: npt.NDArray[np.float32],
        keep: bool,
        out: npt.NDArray[np.float32],
    ) -> None: ...
    def back(self, g: npt.NDArray[np.float32], gradients: npt.NDArray[np.float32]) -> None: ...

def available_ops() -> list[str]: ...
def read_bandwidth(bytes: int, threads: int, rounds: int) -> float: ...
