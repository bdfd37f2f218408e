"""Requests that schemathesis makes up from the API's own description."""

import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("schemathesis", reason="schemathesis is not installed")
pytest.importorskip("fastapi", reason="the extra 'web' is not installed")

import schemathesis
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.python.asgi import HOST

from tests.library.colours import ColourEmbedder
from videoclip.library.library import VideoLibrary
from videoclip.web.app import create_app
from videoclip.web.safety import ServeSettings

load_all_checks()
CHECKS = schemathesis.checks.CHECKS.get_by_names(
    ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)
pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def described(made_videos, tmp_path_factory):
    """What the server says of itself; it takes uploads."""
    folder = tmp_path_factory.mktemp("fuzzed")
    with VideoLibrary(folder / "library", ColourEmbedder(), model="colours") as library:
        library.update([made_videos])
        app = create_app(library, ServeSettings(allow_upload=True, allowed_hosts=(HOST,)))
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


def test_no_request_breaks_the_server_or_its_description(described):
    operations = [
        found.ok() for found in described.exclude(path_regex="events").get_all_operations()
    ]
    assert len(operations) > 20
    for operation in operations:

        @given(operation.as_strategy())
        @settings(max_examples=20, suppress_health_check=list(HealthCheck))
        def check(case):
            case.call_and_validate(checks=[not_a_server_error, *CHECKS])

        check()
