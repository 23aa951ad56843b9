"""Errors of the service.

    ServiceError
    ├── InvalidInput          the arguments are wrong; running the job again cannot help
    │   ├── InvalidMessage        a mail that must not be sent (bad address, header injection, too large)
    │   ├── InvalidOperation      an unknown image operation, or a wrong parameter
    │   ├── UnsafePath            a path outside the configured root, or a foreign bucket
    │   ├── ImageTooLarge         a decompression bomb, or a result that would be one
    │   └── InvalidRecords        a data object that is not the JSON or CSV it claims to be
    ├── ObjectMissing         an S3 key, or a local file, that does not exist
    ├── MailRejected          the mail server said no for good (5xx)
    ├── MailUndeliverable     the mail server could not be reached, or said "later", too often
    ├── ReportFailed          typst could not render the report
    └── InvalidSettings       the environment does not describe a service

Every error takes one message, so that it survives any serializer.
"""


class ServiceError(Exception):
    """Anything that the service raises on purpose."""


class InvalidInput(ServiceError):
    """The arguments are wrong; running the job again cannot help."""


class InvalidMessage(InvalidInput):
    """A mail that must not be sent."""


class InvalidOperation(InvalidInput):
    """An unknown image operation, or a wrong parameter of one."""


class UnsafePath(InvalidInput):
    """A path outside the configured root, or a bucket that is not the service's."""


class ImageTooLarge(InvalidInput):
    """An image with more pixels or bytes than the service accepts, before or after an operation."""


class InvalidRecords(InvalidInput):
    """A data object that is not the JSON or CSV it claims to be."""


class ObjectMissing(ServiceError):
    """An S3 key, or a local file, that does not exist."""


class MailRejected(ServiceError):
    """The mail server refused the mail for good (a 5xx reply)."""


class MailUndeliverable(ServiceError):
    """The last allowed attempt still met a lost connection or a 4xx reply."""


class ReportFailed(ServiceError):
    """typst could not render the report."""


class InvalidSettings(ServiceError):
    """The environment names a setting that does not exist, or gives one a wrong value."""
