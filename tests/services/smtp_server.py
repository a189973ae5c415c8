"""A real, small SMTP server (RFC 5321) with STARTTLS (RFC 3207), TLS and AUTH PLAIN (RFC 4954), on asyncio."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

USER, PASSWORD = "mailer", "mail-secret"


class SmtpServer:
    """Takes mails into `mails`. `busy` counts the mails that it still refuses for now (451)."""

    def __init__(self, certificate: Path | None = None, implicit_tls: bool = False, busy: int = 0) -> None:
        self.mails: list[Message] = []
        self.recipients: list[str] = []
        self.logins: list[str] = []
        self.encrypted: list[bool] = []
        self.busy, self.port = busy, 0
        self._implicit = implicit_tls
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        context = self._tls if self._implicit else None
        server = await asyncio.start_server(self._session, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await stop.wait()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())

        recipients: list[str] = []
        say("220 test")
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := (await reader.readline()).decode().strip():
                command, _, rest = line.partition(" ")
                encrypted = writer.get_extra_info("ssl_object") is not None
                match command.upper():
                    case "EHLO":
                        say("250-test")
                        if self._tls and not encrypted:
                            say("250-STARTTLS")
                        say("250 AUTH PLAIN")
                    case "STARTTLS" if self._tls:
                        say("220 go on")
                        await writer.drain()
                        await writer.start_tls(self._tls)
                    case "AUTH":
                        given = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")[1:]
                        self.logins.append(given[0])
                        say("235 welcome" if given == [USER, PASSWORD] else "535 5.7.8 wrong user or password")
                    case "MAIL" if self.busy:
                        self.busy -= 1
                        say("451 4.3.0 busy")
                    case "RCPT":
                        recipients.append(rest.partition(":")[2].strip("<>"))
                        say("250 taken")
                    case "DATA":
                        say("354 go on")
                        body = await reader.readuntil(b"\r\n.\r\n")
                        self.mails.append(message_from_bytes(body[:-5]))
                        self.recipients += recipients
                        self.encrypted.append(encrypted)
                        say("250 taken")
                    case "QUIT":
                        say("221 bye")
                        break
                    case _:
                        say("250 fine")
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def smtp_server(certificate: Path | None = None, implicit_tls: bool = False, busy: int = 0) -> Iterator[SmtpServer]:
    """A running server in a thread of its own. `certificate` is a file with key and certificate."""
    server, started, loop = SmtpServer(certificate, implicit_tls, busy), threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve(started, stop),), daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
