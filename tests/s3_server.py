"""An S3 server on this machine, for tests of object storage; `make test-all` installs it."""

import importlib.util

import pytest

from videoclip.features.contained import stop_helpers

S3 = pytest.mark.skipif(
    importlib.util.find_spec("moto") is None, reason="needs moto; `make test-all` installs it"
)
S3_WARNINGS = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:(boto|aiobotocore|moto|werkzeug|flask).*"
)


@pytest.fixture(scope="module")
def bucket():
    """An S3 server on this machine, and a bucket in it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        stop_helpers()  # those that run know nothing of these variables
        boto3.client("s3").create_bucket(Bucket="videos")
        yield "s3://videos"
    server.stop()


def upload(folder, address):
    """Put the files of a folder below an address."""
    import boto3

    name, _, prefix = address.removeprefix("s3://").partition("/")
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"{prefix}/{file.relative_to(folder).as_posix()}"
            boto3.client("s3").upload_file(str(file), name, key)
