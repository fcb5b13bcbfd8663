"""A script that takes all the memory it can get."""

blocks = []
while True:
    blocks.append(bytearray(64 * 2**20))
