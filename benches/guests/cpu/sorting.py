"""sorted: numbers, strings, and by a key."""

state, numbers = 42, []
for _ in range(80_000):
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    numbers.append(state)
words = [str(number) for number in numbers]
total = 0
for _ in range(9):
    total += sorted(numbers)[7]
    total += len(sorted(words)[11])
    total += sorted(numbers, key=lambda number: -(number % 1000))[3]
    total += sorted(zip(words, numbers))[5][1]
print(total)
