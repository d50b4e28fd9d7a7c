"""Spectral norm: function calls and generators."""

SIZE = 730


def element(row, column):
    return 1.0 / ((row + column) * (row + column + 1) // 2 + row + 1)


def times(vector, transposed=False):
    if transposed:
        return [sum(element(j, i) * v for j, v in enumerate(vector)) for i in range(SIZE)]
    return [sum(element(i, j) * v for j, v in enumerate(vector)) for i in range(SIZE)]


u = [1.0] * SIZE
for _ in range(4):
    v = times(times(u), transposed=True)
    u = times(times(v), transposed=True)
print(f"{(sum(a * b for a, b in zip(u, v)) / sum(b * b for b in v)) ** 0.5:.6f}")
