"""Send a notice by webhook and by mail."""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import EmailMessage
from urllib.parse import urlparse

import tenacity

from pipelines.closing.settings import NotificationSettings

WEBHOOK_URL = "DEEPVIDEO_WEBHOOK_URL"  # the URL is the secret: it holds a token
SMTP_USERNAME, SMTP_PASSWORD = "DEEPVIDEO_SMTP_USERNAME", "DEEPVIDEO_SMTP_PASSWORD"
SECRET_KEYS = (WEBHOOK_URL, SMTP_USERNAME, SMTP_PASSWORD)
_BUSY = (429, 500, 502, 503, 504)


class NotificationError(RuntimeError):
    """Nobody could be told by one of the ways that are set up; the message names the way and the remedy."""


def notify(subject: str, body: str, facts: Mapping[str, object], settings: NotificationSettings) -> list[str]:
    """Tell by every way that is set up; returns their names. `facts` go into the webhook's JSON beside `text`.

    What fails for a moment is tried again. Raises NotificationError after all ways were tried, if one failed.
    """
    told: list[str] = []
    failed: list[str] = []
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_exponential(multiplier=1, max=10),
        reraise=True,
    )
    if url := os.environ.get(WEBHOOK_URL, ""):
        try:
            again(_post, url, {"text": f"{subject}\n{body}", **facts}, settings.timeout)
            told.append("webhook")
        except (OSError, ValueError) as error:  # never with the URL, which is a secret
            failed.append(f"webhook at {urlparse(url).hostname}: {_brief(error)}; check {WEBHOOK_URL} in its secret")
    if settings.smtp_host:
        try:
            again(_mail, subject, body, settings)
            told.append("mail")
        except (OSError, smtplib.SMTPException) as error:
            where = f"{settings.smtp_host}:{settings.smtp_port}"
            failed.append(f"mail by {where}: {_brief(error)}; check notification.* and {SMTP_USERNAME} in its secret")
    if failed:
        raise NotificationError("\n".join(failed))
    return told


def _post(url: str, content: Mapping[str, object], timeout: float) -> None:
    if urlparse(url).scheme not in ("http", "https"):
        raise ValueError("its URL is not http(s)://")
    data = json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=timeout).close()


def _mail(subject: str, body: str, settings: NotificationSettings) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, settings.mail_from, ", ".join(settings.mail_to)
    message.set_content(body)
    place, context = (settings.smtp_host, settings.smtp_port), ssl.create_default_context()
    if settings.smtp_security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(*place, timeout=settings.timeout, context=context)
    else:
        server = smtplib.SMTP(*place, timeout=settings.timeout)
    with server:
        if settings.smtp_security == "starttls":
            server.starttls(context=context)
        if user := os.environ.get(SMTP_USERNAME, ""):
            server.login(user, os.environ.get(SMTP_PASSWORD, ""))
        server.send_message(message)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _BUSY
    if isinstance(error, smtplib.SMTPResponseException):
        return 400 <= error.smtp_code < 500  # SMTP's transient replies
    return isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException | ssl.SSLError)


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
