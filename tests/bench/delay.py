"""A proxy that delays answers: ``python tests/bench/delay.py PORT TARGET_PORT SECONDS``.

Every piece that the server sends reaches the client so much later, in order; pieces do not wait for each other. So a
request takes at least the delay, as over a long line, and the rate is what it was.
"""

from __future__ import annotations

import asyncio
import sys


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

    async def take() -> None:
        data = b"-"
        while data:
            data = await reader.read(1 << 16)
            await waiting.put((loop.time() + delay, data))

    taking = asyncio.create_task(take())
    try:
        while True:
            when, data = await waiting.get()
            if (pause := when - loop.time()) > 0:
                await asyncio.sleep(pause)
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        taking.cancel()
        writer.close()


async def serve(port: int, target: int, delay: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(_forward(reader, there_writer, 0.0), _forward(there_reader, writer, delay))

    server = await asyncio.start_server(connected, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
