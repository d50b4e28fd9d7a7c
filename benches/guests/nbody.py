"""The n-body problem in pure Python: floats, lists and calls, no I/O until the end."""

import math

BODIES = [
    ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 39.47841760435743),
    ([4.84, -1.16, -0.10], [0.60, 2.81, -0.02], 0.03769),
    ([8.34, 4.12, -0.40], [-1.01, 1.82, 0.008], 0.01128),
    ([12.89, -15.11, -0.22], [1.08, 0.86, -0.01], 0.00172),
    ([15.37, -25.91, 0.17], [0.97, 0.59, -0.03], 0.00203),
]


def advance(steps, dt=0.01):
    for _ in range(steps):
        for i, (p, v, m) in enumerate(BODIES):
            for q, w, n in BODIES[i + 1:]:
                d = [p[k] - q[k] for k in range(3)]
                f = dt / (math.sqrt(sum(x * x for x in d)) ** 3)
                for k in range(3):
                    v[k] -= d[k] * n * f
                    w[k] += d[k] * m * f
        for p, v, _ in BODIES:
            for k in range(3):
                p[k] += dt * v[k]


advance(30000)
print(f"{BODIES[0][0][0]:.6f}")
