"""Callers that keep asking a server, in a process of their own; prints one line of JSON.

python -m export.benchmark.serving.callers URL CALLERS SECONDS < TEXTS
"""

import asyncio
import json
import statistics
import sys
import time

import aiohttp


async def call(url: str, callers: int, seconds: float, texts: list[str]) -> dict[str, float]:
    """Returns texts a second, the latencies' p50 and p99 in seconds, and the failed requests."""
    waits: list[float] = []
    failed = 0
    end = time.monotonic() + seconds

    async def keep_asking(session: aiohttp.ClientSession, first: int) -> None:
        nonlocal failed
        place = first
        while time.monotonic() < end:
            fields = {"q": texts[place % len(texts)], "source": "en", "target": "de"}
            place += callers
            started = time.monotonic()
            try:
                async with session.post(f"{url}/translate", json=fields) as answer:
                    await answer.read()
                    right = answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                right = False
            if right:
                waits.append(time.monotonic() - started)
            else:
                failed += 1

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120)
    ) as session:
        started = time.monotonic()
        await asyncio.gather(*(keep_asking(session, first) for first in range(callers)))
        took = time.monotonic() - started
    waits.sort()
    return {
        "rate": len(waits) / took,
        "p50": statistics.median(waits),
        "p99": waits[int(0.99 * (len(waits) - 1))],
        "failed": failed,
        "requests": len(waits),
    }


def main() -> int:
    """Prints the result; returns the exit status."""
    url, callers, seconds = sys.argv[1:]
    texts = sys.stdin.read().splitlines()
    print(json.dumps(asyncio.run(call(url, int(callers), float(seconds), texts))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
