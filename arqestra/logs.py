"""The name of `arq.logs`: the logging of arq's command line, whose loggers are ours as well."""

from arq.logs import default_log_config

__all__ = ("default_log_config",)
