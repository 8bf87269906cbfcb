"""The connector type `s3`."""

from relay_plugins.s3.connector import S3

__all__ = ["S3"]
