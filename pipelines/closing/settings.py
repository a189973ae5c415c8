"""Who is told how a run ended. Addresses that are secrets, and passwords, come from a Kubernetes secret alone."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from components.shared.settings import StepSettings, setting

Event = Literal["failure", "no_promotion"]


class NotificationSettings(StepSettings):
    """Notification by webhook (where the secret has its URL) and by mail (where there is a server)."""

    events: tuple[Event, ...] = setting(
        ("failure", "no_promotion"),
        "What is told: that a run failed, or that it ended and its policy did not become the champion.",
        compiled=True,
    )
    smtp_host: str = setting("", "Mail server; empty: no mail is sent.", compiled=True)
    smtp_port: int = setting(587, "The mail server's port.", compiled=True, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = setting(
        "starttls", "How the connection to the mail server is encrypted.", compiled=True
    )
    mail_from: str = setting("", "Sender of mails.", compiled=True)
    mail_to: tuple[str, ...] = setting((), "Recipients of mails.", compiled=True)
    timeout: int = setting(30, "How long a server is waited for.", unit="s", compiled=True, ge=1)
    ui_url: str = setting("", "Address of the Kubeflow UI, for a link to the run; empty: no link.", compiled=True)

    @model_validator(mode="after")
    def _mail_has_both_ends(self) -> NotificationSettings:
        if self.smtp_host and not (self.mail_from and self.mail_to):
            raise ValueError("smtp_host: needs mail_from and mail_to as well")
        return self
