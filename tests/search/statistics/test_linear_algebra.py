"""Tiled products equal numpy's own, and stay in the calling thread."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from simba_actors.search.statistics.linear_algebra import inverse_root, matmul, matvec, members_by_rank, weighted_gram
from tests.support.waiting import PATIENCE

DRAWS = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 5, 3), (200, 130, 7), (65, 64, 129), (300, 1, 70), (3, 90, 1), (0, 4, 2)])
def test_a_product_of_tiles_is_the_product(shape: tuple[int, int, int]) -> None:
    rows, inner, columns = shape
    left, right = DRAWS.standard_normal((rows, inner)), DRAWS.standard_normal((inner, columns))
    assert np.allclose(matmul(left, right), left @ right)
    assert np.allclose(matvec(left, right[:, 0]), left @ right[:, 0])


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (64, 64), (1_000, 130)])
def test_a_weighted_gram_matrix_is_the_product_with_the_weights_between(rows: int, columns: int) -> None:
    matrix, weight = DRAWS.standard_normal((rows, columns)), DRAWS.random(rows)
    expected = matrix.T @ (matrix * weight[:, None])
    assert np.abs(weighted_gram(matrix, weight) - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("size", [1, 64, 65, 300])
def test_the_root_of_an_inverse_is_one(size: int) -> None:
    rows = DRAWS.standard_normal((2 * size, size))
    matrix = rows.T @ rows + np.eye(size)
    root = inverse_root(matrix)
    assert np.allclose(root, np.triu(root))
    assert np.allclose(root @ root.T @ matrix, np.eye(size))


def test_groups_are_gone_through_one_member_at_a_time() -> None:
    counts = np.array([2, 0, 3])
    order, members = members_by_rank(counts, np.cumsum(counts) - counts)
    assert order.tolist() == [2, 0, 1]
    assert [own.tolist() for own in members] == [[2, 0], [3, 1], [4]]


def test_large_products_take_no_other_thread_than_the_calling_one() -> None:
    """BLAS threads count in the CPU time of the process, but not in that of the thread."""
    # Threads that earlier tests left in this process may work for a while, but BLAS would in each attempt.
    assert any(whole < 1.2 * own + 0.02 for own, whole in (cpu_seconds_of_large_products() for _ in range(20)))


def cpu_seconds_of_large_products() -> tuple[float, float]:
    """Return the CPU seconds that large products take of a thread of their own, and of the whole process meanwhile."""
    rows = DRAWS.standard_normal((4_000, 300))
    spent: list[tuple[float, float]] = []

    def work() -> None:
        started = time.thread_time(), time.process_time()
        matrix = weighted_gram(rows, np.ones(len(rows))) + np.eye(300)
        matmul(rows, inverse_root(matrix))
        matvec(rows, rows[0])
        spent.append((time.thread_time() - started[0], time.process_time() - started[1]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    return spent[0]
