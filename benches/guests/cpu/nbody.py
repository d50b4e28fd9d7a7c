"""n-body: floats in local variables and attributes."""

PLANETS = [
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 39.47841760435743],
    [4.841431442, -1.160320044, -0.103622044, 0.606326393, 2.811986845, -0.025218361, 0.03769367],
    [8.343366718, 4.124798564, -0.403523417, -1.010774346, 1.825662371, 0.008415761, 0.011286326],
    [12.89436956, -15.11115140, -0.223307578, 1.082791006, 0.868713018, -0.010832637, 0.001723724],
    [15.37969711, -25.91931460, 0.179258773, 0.979090732, 0.594698998, -0.034755955, 0.002033687],
]


def advance(steps, pairs):
    for _ in range(steps):
        for a, b in pairs:
            x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
            force = 0.01 / (x * x + y * y + z * z) ** 1.5
            left, right = b[6] * force, a[6] * force
            a[3] -= x * left
            a[4] -= y * left
            a[5] -= z * left
            b[3] += x * right
            b[4] += y * right
            b[5] += z * right
        for body in PLANETS:
            body[0] += 0.01 * body[3]
            body[1] += 0.01 * body[4]
            body[2] += 0.01 * body[5]


advance(330_000, [(a, b) for at, a in enumerate(PLANETS) for b in PLANETS[at + 1 :]])
print(f"{PLANETS[0][0]:.6f}")
