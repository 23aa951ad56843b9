"""The names of the service's queues: one worker serves one of them."""

DEFAULT_QUEUE = "default"
EMAIL_QUEUE = "email-queue"
