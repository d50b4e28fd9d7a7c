"""fannkuch: small integers, lists and slices."""


def fannkuch(size):
    order, count = list(range(size)), list(range(size))
    most, checksum, sign = 0, 0, 1
    while True:
        first = order[0]
        if first:
            flips, copy = 0, order[:]
            while first:
                copy[: first + 1] = copy[first::-1]
                flips += 1
                first = copy[0]
            most = max(most, flips)
            checksum += sign * flips
        if sign == 1:
            order[0], order[1] = order[1], order[0]
            sign = -1
        else:
            order[1], order[2] = order[2], order[1]
            sign = 1
            for at in range(2, size):
                if count[at]:
                    count[at] -= 1
                    break
                count[at] = at
                if at == size - 1:
                    return checksum, most
                order.insert(at + 1, order.pop(0))


for _ in range(4):
    result = fannkuch(9)
print(*result)
