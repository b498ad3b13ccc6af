"""The side that works: it looks for prime numbers, a batch at a time, and tells what it found."""

import os
import signal
import threading

BATCH = 10_000
PAUSE_SECONDS = float(os.environ.get("PAUSE_SECONDS", "5"))


def primes_below(limit: int) -> int:
    """Counts the prime numbers below `limit` with the sieve of Eratosthenes."""
    prime = bytearray([1]) * limit
    prime[:2] = bytes(2)
    for factor in range(2, int(limit**0.5) + 1):
        if prime[factor]:
            prime[factor * factor :: factor] = bytes(len(range(factor * factor, limit, factor)))
    return sum(prime)


def main() -> None:
    """Works until told to stop, and never stops in the middle of a batch."""
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    limit = BATCH
    while not stop.is_set():
        print(f"{primes_below(limit)} primes below {limit}", flush=True)
        limit = limit + BATCH if limit < 100 * BATCH else BATCH
        stop.wait(PAUSE_SECONDS)
    print("stopped after a whole batch", flush=True)


if __name__ == "__main__":
    main()
