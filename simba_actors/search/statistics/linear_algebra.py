"""Products and inverses of matrices, computed in the calling thread alone.

OpenBLAS, which numpy's wheels contain, splits a large product over one thread for each core it sees. Its threads spin
while they wait: beside busy processes, or in a container limited to one core of many, the same work costs up to ten
times the CPU. The number of threads can only be limited for the whole process, and that choice is the host's.
OpenBLAS computes small products in the calling thread, so the functions here split large ones into tiles. They have the
names of their counterparts in NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

if TYPE_CHECKING:
    # DSPy 3.4.0 puts a stand-in for numpy into sys.modules, under which numpy.typing can't be imported.
    import numpy.typing as npt

Vector: TypeAlias = "npt.NDArray[np.float64]"
Matrix: TypeAlias = "npt.NDArray[np.float64]"
Float32Array: TypeAlias = "npt.NDArray[np.float32]"
"""A vector, a matrix, or a stack of matrices in single precision."""
Indices: TypeAlias = "npt.NDArray[np.int64]"
Booleans: TypeAlias = "npt.NDArray[np.bool_]"

TILE = 64
"""Side of a tile. OpenBLAS never starts threads for a product of at most 64 x 64 x 64."""

INVERTED_WHOLE = 32
"""Largest number of rows of a matrix that is inverted as a whole. For a larger one it takes less time to invert its
halves and put them together."""

GRAM_ROWS = 16 * TILE
"""Number of rows that `weighted_gram` works on at a time."""


def matmul(left: Matrix, right: Matrix) -> Matrix:
    """Return `left @ right`."""
    (rows, inner), columns = left.shape, right.shape[1]
    if min(rows, inner, columns) <= 1:
        return np.einsum("ik,kj->ij", left, right)
    if max(rows, inner, columns) <= TILE:
        return left @ right
    result = np.zeros((rows, columns))
    height = TILE**3 // (min(inner, TILE) * min(columns, TILE))
    for row in range(0, rows, height):
        for column in range(0, columns, TILE):
            tile = result[row : row + height, column : column + TILE]
            for k in range(0, inner, TILE):
                tile += _small(left[row : row + height, k : k + TILE], right[k : k + TILE, column : column + TILE])
    return result


def _small(left: Matrix, right: Matrix) -> Matrix:
    """Return `left @ right` for matrices of at most a tile.

    OpenBLAS starts threads for products of a matrix and a vector sooner than for others, so it does not get these.
    """
    if 1 in (left.shape[0], left.shape[1], right.shape[1]):
        return np.einsum("ik,kj->ij", left, right)
    return left @ right


def matvec(matrix: Matrix | Float32Array, vector: Vector) -> Vector:
    """Return `matrix @ vector`, computed in the matrix's precision."""
    return cast("Vector", np.einsum("ij,j->i", matrix, vector.astype(matrix.dtype, copy=False)))


def weighted_gram(rows: Matrix | Float32Array, weight: Vector) -> Matrix:
    """Return `rows.T @ diag(weight) @ rows`.

    Sums over up to `GRAM_ROWS` rows are computed in single precision, which takes half the time, and added up in double
    precision.
    """
    count, columns = rows.shape
    tiles = -(-columns // TILE)
    tile = [slice(n * TILE, (n + 1) * TILE) for n in range(tiles)]
    total = np.zeros((tiles * TILE, tiles * TILE))
    padded = np.zeros((min(GRAM_ROWS, -(-count // TILE) * TILE), tiles * TILE), dtype=np.float32)
    for start in range(0, count, GRAM_ROWS):
        block = rows[start : start + GRAM_ROWS]
        blocks = -(-len(block) // TILE)
        plain = padded[: blocks * TILE]
        plain[: len(block), :columns], plain[len(block) :] = block, 0.0
        scaled = plain.copy()
        scaled[: len(block)] *= weight[start : start + GRAM_ROWS, None].astype(np.float32)
        left = scaled.reshape(blocks, TILE, tiles, TILE).transpose(2, 0, 3, 1)
        right = plain.reshape(blocks, TILE, tiles, TILE).transpose(2, 0, 1, 3)
        for i in range(tiles):
            for j in range(i + 1):
                total[tile[i], tile[j]] += (left[i] @ right[j]).sum(axis=0)
    for i in range(tiles):
        for j in range(i):
            total[tile[j], tile[i]] = total[tile[i], tile[j]].T
    return total[:columns, :columns]


def inverse_root(matrix: Matrix) -> Matrix:
    """Return the upper triangular `root` whose `root @ root.T` is the inverse of `matrix`.

    The matrix must be symmetric and positive definite.
    """
    return _inverse_of_factor(matrix).T


def _inverse_of_factor(matrix: Matrix) -> Matrix:
    """Return the inverse of the matrix's Cholesky factor, computed block by block."""
    if len(matrix) <= INVERTED_WHOLE:
        return cast("Matrix", np.linalg.inv(np.linalg.cholesky(matrix)))
    half = len(matrix) // 2
    inverse = np.zeros_like(matrix)
    inverse[:half, :half] = first = _inverse_of_factor(matrix[:half, :half])
    below = matmul(matrix[half:, :half], first.T)
    inverse[half:, half:] = last = _inverse_of_factor(matrix[half:, half:] - matmul(below, below.T.copy()))
    inverse[half:, :half] = -matmul(matmul(last, below), first)
    return inverse


def concatenated_ranges(first: Indices, counts: Indices) -> Indices:
    """Return `range(first[n], first[n] + counts[n])` for each n, one range after another in one array."""
    before = np.cumsum(counts) - counts
    return cast("Indices", np.arange(int(counts.sum())) + np.repeat(first - before, counts))


def members_by_rank(counts: Indices, first: Indices) -> tuple[Indices, list[Indices]]:
    """Return the order of groups by size, and the indices of their members: all first ones, all second ones, and so on.

    Group n has `counts[n]` members at consecutive indices from `first[n]` on. In the order, the largest group comes
    first, so entry k of the list has the (k + 1)-th members of as many groups of the order as have that many. For sums
    over many small groups this is several times as fast as `np.add.reduceat`.
    """
    order: Indices = np.argsort(-counts, kind="stable")
    smaller: Indices = -counts[order]
    ranks = np.arange(int(counts.max(initial=0)))
    having: list[int] = np.searchsorted(smaller, -ranks, side="left").tolist()
    first = first[order]
    return order, [first[:groups] + rank for rank, groups in enumerate(having)]
