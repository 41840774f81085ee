"""``python -m tests.support.fuzzing_pictures PNG``: cleans 2,000 damaged pictures of one format."""

import random
import resource
import signal
import sys
import warnings

from service.media.images.process import Refused, clean
from service.media.images.sniffing import sniff_format
from tests.support.pictures import draw_picture

ROUNDS = 2_000
MAX_SECONDS = 10  # for one picture
MAX_GROWTH = 200 * 1024  # KiB, after the first hundred pictures


def damaged(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        at = chance.randrange(len(changed))
        match chance.randrange(6):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.randrange(256)
            case 2:
                del changed[at : at + chance.randrange(1, 30)]
            case 3:
                changed[at:at] = chance.randbytes(chance.randrange(1, 30))
            case 4:
                changed[at : at + 4] = chance.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\x40\0"))
            case _:
                other = chance.randrange(len(changed))
                changed[at:at] = changed[other : other + chance.randrange(1, 60)]
        if len(changed) < 20:
            break
    return bytes(changed)


def main(kind: str) -> None:
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    chance = random.Random(1)
    seeds = [draw_picture(kind, width, height) for width, height in ((1, 1), (33, 17), (120, 90))]
    accepted, refused, grown = 0, 0, 0
    for number in range(ROUNDS):
        signal.alarm(MAX_SECONDS)
        content = damaged(chance.choice(seeds), chance)
        try:
            clean(content, sniff_format(content) or kind)
            accepted += 1
        except Refused:
            refused += 1
        if number == 100:
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown
    assert grown < MAX_GROWTH, f"The memory grew by {grown} KiB."
    print(f"{kind}: {accepted} accepted, {refused} refused, grown by {grown} KiB")  # noqa: T201 (its answer)


if __name__ == "__main__":
    main(sys.argv[1])
