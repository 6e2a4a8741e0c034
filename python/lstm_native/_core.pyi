"""Types of the native module (floor 3). Private: the public face is the package around it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

class Tensor:
    """Contiguous row-major array with a shape, a dtype, a device and an owner.

    Holds float32, float64, int32, int64, uint8 or bool. NumPy arrays and DLPack objects on the
    CPU come in without a copy where dtype and layout allow; `numpy()` shares memory too, and is a copy
    where the device is another one.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    def numpy(self) -> npt.NDArray[Any]: ...
    def copy(self) -> Tensor: ...
    def own(self) -> Tensor:
        """Itself, or a copy where its memory is that of an array which came in, or of another tensor too."""
    def to(self, device: str) -> Tensor:
        """Itself where it lies on `device`, "cpu" or "cuda", else a copy there."""
    def reshape(self, shape: Sequence[int]) -> Tensor: ...
    def __len__(self) -> int: ...
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

def as_tensor(x: Any, dtype: str) -> Tensor:
    """`x` as a tensor of `dtype`; no copy when it already is one in memory.

    TypeError for object, string and complex arrays. Integers, float64, foreign-endian, strided and
    read-only arrays are converted or copied as needed.
    """

def same_bits(a: Tensor, b: Tensor, /) -> bool:
    """Whether shape, dtype and every byte are the same."""

def from_dlpack(x: Any) -> Tensor | None:
    """A DLPack object on the CPU, or on the opened CUDA device, without a copy; None where that takes one."""

class Variable:
    """Weight storage that counts its writes: a new version after every `assign` and optimizer step."""

    def __init__(self, value: Tensor) -> None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def is_quantized(self) -> bool: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def scales(self) -> npt.NDArray[np.float32] | None:
        """With dtype "int8", a copy with an axis of length 1 beside that of the scales; else None."""
    @property
    def scale_axis(self) -> int: ...
    def numpy(self) -> npt.NDArray[Any]:
        """A copy; what quantized values stand for."""
    def assign(self, value: Tensor) -> None:
        """Copies `value` in; ValueError when its shape differs."""

def quantize_variables(
    variables: Iterable[tuple[Variable, int, str]], dtype: str, is_new: bool = False
) -> None:
    """Puts "bfloat16" or "int8" in the place of float32, in all of them or, with a ValueError, in none.

    Each comes with the axis along which it has scales, 0 or 1, and what messages begin with. What has those
    numbers gives the same codes again. Waits for calls in other threads, unless nobody else has the variables
    yet (`is_new`).
    """

def move_variables(variables: Iterable[Variable], device: str) -> None:
    """Moves all to `device`, or none when its memory does not suffice; each gets a new version."""

# --- recurrent layers ---------------------------------------------------------------------------

class RecurrentWeights:
    """The variables of one recurrent layer with their packed form, kept until a variable changes.

    kernel (I, G U), recurrent_kernel (U, G U), bias (G U,) or None. `cell` is "lstm" (G = 4, gates i, f, c,
    o), "simple_rnn" (1), "gru" (3, gates z, r, h; bias (2, G U): the reset gate after the recurrent product)
    or "gru_before" (3). Quantized kernels are for inference.
    """

    def __init__(
        self,
        cell: str,
        kernel: Variable,
        recurrent_kernel: Variable,
        bias: Variable | None,
        activation: str,
        recurrent_activation: str,
        /,
    ) -> None: ...
    @staticmethod
    def general(
        cell: str,
        kernel: Variable,
        recurrent_kernel: Variable,
        bias: Variable | None,
        activation: str | tuple[str, float, float],
        recurrent_activation: str | tuple[str, float, float],
        output_activation: str | tuple[str, float, float],
        /,
        *,
        peepholes: Variable | None = None,
        projection: Variable | None = None,
        coupled: bool = False,
        clip: float | None = None,
    ) -> RecurrentWeights:
        """Weights for the general path: activations also as (name, alpha, beta).

        LSTM: `peepholes` (3 U,) of i, f, o; `projection` (U, P), with recurrent_kernel (P, G U) and outputs
        and h of P columns; `coupled` has no columns of f (G = 3, peepholes (2 U,) of i, o).
        """

    @staticmethod
    def in_rows(
        cell: str, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, projection: Tensor | None, /
    ) -> RecurrentWeights:
        """PyTorch's weights, on the tensors' memory as it is now: who writes there makes others.

        weight_ih (G U, I), weight_hh (G U, U or P), bias (G U,), of a GRU (2, 3 U), projection (P, U).
        `cell` is "lstm" or "gru", gates i, f, c, o or r, z, h. Gradients have the same layout.
        """

class RecurrentSaved:
    """What `recurrent_backward` needs of one forward call. Good for one backward call."""

RecurrentResult: TypeAlias = tuple[Tensor, Tensor, Tensor | None, RecurrentSaved | None]

def recurrent_forward(
    weights: RecurrentWeights,
    inputs: Tensor,
    mask: Tensor | None,
    reset: Tensor | None,
    initial_h: Tensor | None,
    initial_c: Tensor | None,
    return_sequences: bool,
    go_backwards: bool,
    zero_output_for_mask: bool,
    training: bool,
    /,
    index: Tensor | None = None,
    checkpoint_steps: int = 0,
    recurrent_mask: Tensor | None = None,
    time_first: bool = False,
) -> RecurrentResult:
    """Runs inputs (B, T, I): returns output (B, T, U) or (B, U), last h (B, U), last c (B, U), saved.

    `mask` and `reset` are bool (B, T), in input order. Outputs are in processed order. `saved` is None
    unless `training`. With `index`, int32 (B, T), inputs are rows (R, I) and step (b, t) reads row
    index[b, t]. `checkpoint_steps` other than 0 keeps one state every so many steps, and backward computes
    the rest again; it does not go with `index`. The recurrent product takes h * recurrent_mask (B, U).

    `time_first`: inputs and output are (T, B, ...).
    """

# The arguments of one call, all of them.
RecurrentCall: TypeAlias = tuple[
    RecurrentWeights,
    Tensor,
    Tensor | None,
    Tensor | None,
    Tensor | None,
    Tensor | None,
    bool,
    bool,
    bool,
    bool,
    Tensor | None,
    int,
    Tensor | None,
    bool,
]

def recurrent_forward_together(calls: Sequence[RecurrentCall], joined: bool, /) -> list[RecurrentResult]:
    """Results of calls that run together where they can: on the CPU the bits of one after the other.

    All are checked before one runs. `joined`: they write one output of all steps, their columns side by
    side, those of a call that goes backwards in input order.
    """

def recurrent_backward(
    weights: RecurrentWeights,
    saved: RecurrentSaved,
    d_output: Tensor | None,
    d_h: Tensor | None,
    d_c: Tensor | None,
    need_d_inputs: bool,
    need_d_initial: bool,
    /,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients: inputs, kernel, recurrent_kernel, bias, initial_h, initial_c (None where not needed)."""

def general_backward(
    weights: RecurrentWeights,
    saved: RecurrentSaved,
    d_output: Tensor | None,
    d_h: Tensor | None,
    d_c: Tensor | None,
    need_d_inputs: bool,
    need_d_initial: bool,
    /,
) -> tuple[
    Tensor | None,
    Tensor,
    Tensor,
    Tensor | None,
    Tensor | None,
    Tensor | None,
    Tensor | None,
    Tensor | None,
]:
    """As `recurrent_backward`, and then the gradients of peepholes and projection."""

RecurrentBackCall: TypeAlias = tuple[
    RecurrentWeights, RecurrentSaved, Tensor | None, Tensor | None, Tensor | None, bool, bool
]

def recurrent_backward_together(calls: Sequence[RecurrentBackCall], /) -> list[tuple[Tensor | None, ...]]:
    """`general_backward` of each of the calls, which run together where they can."""

# --- dense, embedding, activations --------------------------------------------------------------

class DenseWeights:
    """kernel (..., N), whose K is all axes but the last, and bias (N,) or None, with their packed form."""

    def __init__(self, kernel: Variable, bias: Variable | None, /) -> None: ...

def dense_forward(weights: DenseWeights, x: Tensor, /) -> Tensor:
    """x (..., K) -> x @ kernel + bias (..., N)."""

def dense_backward(
    weights: DenseWeights, x: Tensor, d_y: Tensor, need_d_x: bool, /
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Gradients of x, kernel, bias."""

def embedding_check(ids: Tensor, input_dim: int, /) -> None:
    """ValueError names the first of ids, int32 (...), outside [0, input_dim)."""

def embedding_forward(table: Variable, ids: Tensor, /) -> Tensor:
    """ids int32 (...) -> rows (..., D). ValueError names the first id outside [0, V)."""

def embedding_distinct(table: Variable, ids: Tensor, /) -> tuple[Tensor, Tensor, Tensor] | None:
    """The table's rows (R, D) of the distinct ids, those ids (R,), and the row number at each place of ids.

    None where more than half of the ids are distinct.
    """

def embedding_backward(ids: Tensor, d_y: Tensor, input_dim: int, /) -> Tensor:
    """Gradient of the table (V, D), dense."""

def activation_names() -> list[str]: ...
def activation_is_elementwise(name: str, /) -> bool: ...
def activation_forward(name: str, x: Tensor, /) -> Tensor: ...
def activation_backward(name: str, x: Tensor, y: Tensor, d_y: Tensor, /) -> Tensor:
    """Gradient of x, from the input, the output and the output's gradient."""

# --- the layers around the recurrent ones ---------------------------------------------------------

def merge_forward(mode: str, forward: Tensor | None, backward: Tensor, /) -> Tensor:
    """Outputs of two directions as one: step t of `forward` with step T-1-t of `backward`.

    Both (B, T, units), or (B, units). Modes: concat, sum, ave, mul; units may differ for concat only. Without
    `forward`, concat gives `backward` with its steps in the opposite order.
    """

def merge_backward(
    mode: str,
    d_outputs: Tensor,
    forward_units: int,
    forward: Tensor | None,
    backward: Tensor | None,
    /,
) -> tuple[Tensor | None, Tensor]:
    """Gradients of forward (None where it has no units) and backward; both are given for mul only."""

class LayerNormWeights:
    """gamma and beta, of one shape or None, with epsilon; with `rms_scaling` no mean is subtracted."""

    def __init__(
        self, gamma: Variable | None, beta: Variable | None, epsilon: float, rms_scaling: bool, /
    ) -> None: ...

def layer_norm_forward(
    weights: LayerNormWeights, x: Tensor, columns: int, training: bool, /
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """x as rows of `columns` elements, normalized; in training also mean and 1 / deviation of the rows."""

def layer_norm_backward(
    weights: LayerNormWeights,
    x: Tensor,
    columns: int,
    mean: Tensor,
    inverse: Tensor,
    d_y: Tensor,
    need_d_x: bool,
    /,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, gamma (columns,), beta (columns,); None where not needed or not there."""

def additive_scores_forward(query: Tensor, key: Tensor, scale: Tensor | None, /) -> Tensor:
    """query (B, Q, D), key (B, S, D), scale (D,): (B, Q, S), the sums over D of scale * tanh(query + key)."""

def additive_scores_backward(
    query: Tensor, key: Tensor, scale: Tensor | None, d_scores: Tensor, /
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of query, key, scale."""

# --- a model step by step -------------------------------------------------------------------------

class Stream:
    """One time step of a whole model as one call, for `rows` sequences side by side.

    Layers are added in topological order: each reads the slot that the one before it filled, or the one that
    `read` names; slot 0 is what a step is given. A call that fails changes nothing; one from a second thread
    meanwhile raises RuntimeError.
    """

    def __init__(
        self,
        label: str,
        rows: int,
        features: int,
        convert: Callable[[Any], Tensor],
        /,
        device: str = "cpu",
    ) -> None:
        """`features` is 0 where an embedding comes first; `convert` makes tensors of unusual inputs; the
        layers' weights lie on `device`."""

    def add_embedding(self, label: str, table: Variable, mask_zero: bool, /) -> None: ...
    def add_masking(self, value: float, /) -> None: ...
    def add_recurrent(self, weights: RecurrentWeights, zero_output_for_mask: bool, /) -> None: ...
    def add_dense(self, weights: DenseWeights, /) -> None: ...
    def add_activation(self, name: str, /) -> None: ...
    def add_layer_norm(self, weights: LayerNormWeights, /) -> None: ...
    def end_mask(self) -> None:
        """Lets every step count from here on."""
    def add_rescaling(self, scale: Tensor, offset: Tensor | None, /) -> None:
        """`scale` and `offset` are float32, () or (width,)."""
    def add_batch_norm(
        self,
        mean: Variable,
        variance: Variable,
        gamma: Variable | None,
        beta: Variable | None,
        epsilon: float,
        /,
    ) -> None: ...
    def add_join(self, label: str, mode: str, slots: Sequence[int], /) -> None:
        """Joins slots by a `merge_mode`: "concat", "sum", "ave" or "mul", or by "sub", "max" or "min"."""
    def read(self, slot: int, /) -> None: ...
    @property
    def slot(self) -> int:
        """The slot that the next layer reads, and that outputs come from."""
    @property
    def rows(self) -> int: ...
    @property
    def width(self) -> int:
        """Columns of the outputs."""
    def step(self, x: Any, out: npt.NDArray[np.float32] | None, /) -> npt.NDArray[np.float32]:
        """x (rows, features) or ids (rows,), a single row also without its axis -> `out` (rows, width)."""
    def reset(self, rows: Sequence[int] = ..., /) -> None:
        """Zero states in all rows, or in those listed."""
    def state(self) -> list[list[Tensor]]:
        """Copies of h, or h and c, each (rows, units), of every recurrent layer."""
    def set_state(self, state: Sequence[Sequence[Tensor]], /) -> None: ...

# --- losses -------------------------------------------------------------------------------------

def loss(
    name: str,
    y_true: Tensor,
    y_pred: Tensor,
    row_weights: Tensor | None,
    from_logits: bool,
    parameter: float,
    need_gradient: bool,
    /,
) -> tuple[Tensor, Tensor | None]:
    """Loss of every row (the mean over the last axis) and, on request, the gradient of y_pred.

    y_pred (..., N) float32; y_true the same shape float32, or (...) int32 for
    sparse_categorical_crossentropy. Rows are all axes but the last. The gradient is that of
    sum(row_weights * rows); no weights means ones. Names: binary_crossentropy,
    categorical_crossentropy, sparse_categorical_crossentropy, mean_squared_error, mean_absolute_error,
    huber, log_cosh, kl_divergence. parameter is the label smoothing of the first two, the delta of
    huber, and 0 for the others.
    """

# --- optimizers ---------------------------------------------------------------------------------

def adam_step(
    variables: Sequence[Variable],
    gradients: Sequence[Tensor],
    m: Sequence[Variable],
    v: Sequence[Variable],
    v_hat: Sequence[Variable] | None,
    alpha: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    decays: Sequence[float] | None,
    /,
) -> None:
    """One Adam step on all variables: w -= w * decay; m, v updated; w -= m * alpha / (sqrt(v) + epsilon).

    `alpha` holds learning rate and bias correction. With `v_hat` (amsgrad) its running maximum divides.
    """

def sgd_step(
    variables: Sequence[Variable],
    gradients: Sequence[Tensor],
    velocities: Sequence[Variable] | None,
    learning_rate: float,
    momentum: float,
    nesterov: bool,
    decays: Sequence[float] | None,
    /,
) -> None:
    """One SGD step as Keras: velocity = momentum * velocity - g * lr; w += velocity.

    With `nesterov`, w += momentum * velocity - g * lr. Without velocities, w -= g * lr.
    """

def rmsprop_step(
    variables: Sequence[Variable],
    gradients: Sequence[Tensor],
    velocities: Sequence[Variable],
    momentums: Sequence[Variable] | None,
    averages: Sequence[Variable] | None,
    learning_rate: float,
    rho: float,
    momentum: float,
    epsilon: float,
    decays: Sequence[float] | None,
    /,
) -> None:
    """One RMSprop step as Keras: v = rho * v + (1 - rho) * g^2; w -= g * lr / sqrt(v + epsilon), v: velocity.

    With `averages` (centered), the square of the mean gradient is subtracted from the velocity before the
    root. With `momentums`, momentum = factor * momentum + step is what is subtracted from w.
    """

def add_(target: Tensor, other: Tensor, /) -> None: ...
def scale_(target: Tensor, factor: float, /) -> None: ...
def clip_(target: Tensor, low: float, high: float, /) -> None: ...
def multiply(a: Tensor, b: Tensor, /) -> Tensor: ...
def squared_norms(arrays: Sequence[Tensor], /) -> list[float]:
    """The sum of squares of each."""

def accumulate_(sums: Sequence[Variable], gradients: Sequence[Tensor], steps: int, /) -> list[Tensor]:
    """sum += gradient; with steps > 0 the means sum / steps, and the sums are zero then."""

def average_(averages: Sequence[Variable], variables: Sequence[Variable], momentum: float, /) -> None:
    """average = momentum * average + (1 - momentum) * variable."""

def penalty(x: Tensor, l1: float, l2: float, need_gradient: bool, /) -> tuple[float, Tensor | None]:
    """l1 * sum |x| + l2 * sum x^2, and its gradient on request; float32."""

def penalties(
    variables: Sequence[Variable], l1: Sequence[float], l2: Sequence[float], need_gradients: bool, /
) -> list[tuple[float, Tensor | None]]:
    """`penalty` of each."""

# --- random numbers: counter-based, a function of (seed, offset) alone ----------------------------

def random_uniform(shape: Sequence[int], low: float, high: float, seed: int, offset: int, /) -> Tensor: ...
def random_normal(shape: Sequence[int], mean: float, stddev: float, seed: int, offset: int, /) -> Tensor: ...
def random_truncated_normal(
    shape: Sequence[int], mean: float, stddev: float, seed: int, offset: int, /
) -> Tensor: ...
def random_orthonormal(shape: Sequence[int], seed: int, offset: int, /) -> Tensor:
    """Orthonormal rows (n, length), n <= length, uniformly distributed."""

def random_permutation(n: int, seed: int, offset: int, /) -> Tensor:
    """int64 (n,)."""

def dropout_mask(
    shape: Sequence[int],
    rate: float,
    seed: int,
    offset: int,
    drawn: Sequence[int] | None = None,
    device: str = "cpu",
) -> Tensor:
    """float32: 0 with probability `rate`, else 1 / (1 - rate). The numbers have the shape `drawn`, which
    broadcasts to `shape`."""

# --- machine --------------------------------------------------------------------------------------

def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str, /) -> None:
    """Chooses the instruction set of later calls (for tests). ValueError when the machine lacks it."""

def get_num_threads() -> int: ...
def set_num_threads(n: int, /) -> None: ...
def pool_threads() -> int:
    """Worker threads that are running now (0 before the first parallel call)."""

def open_openmp(library: str, /) -> bool:
    """Finds the OpenMP runtime that the library is linked with; False where there is none."""

def borrow_threads(count: int, /) -> int:
    """From now on calls of this thread use at most `count` threads, those of the opened runtime if there is
    one; 0: the module's own again. Returns the count before."""

def set_patient(patient: bool, /) -> None:
    """Makes calls wait until their whole team is there (for tests)."""

def build_info() -> dict[str, str]: ...

# --- CUDA -----------------------------------------------------------------------------------------

def open_cuda(path: str, /) -> None:
    """Opens the backend's library and starts its device; RuntimeError says what is missing."""

def open_cuda_blas(path: str, /) -> None:
    """Gives the device its library of matrix products; it can be used then."""

def cuda_is_open() -> bool: ...
def cuda_set_precision(name: str, /) -> None: ...
def cuda_set_plan(plan: int, /) -> None:
    """How recurrent calls run their steps: an LnPlan of csrc/backend/backend.h, for tests and benchmarks."""

def cuda_explain(cell: str, units: int, batch: int, steps: int, /, bidirectional: bool = False) -> str: ...
def cuda_synchronize() -> None: ...
def cuda_info() -> tuple[str, tuple[int, int], int, int]:
    """Name, compute capability, free and total bytes."""
