"""The defaults that the user's page promises."""

from fastlb.model.config import (
    Config,
    EjectConfig,
    EjectErrors,
    LogConfig,
    Policy,
    ProbeConfig,
    StatusRange,
    TimeoutConfig,
)
from fastlb.model.limits import REQUEST_KEPT_MAX_BYTES, LimitConfig


def test_least_connections_is_the_policy():
    """It needs no tuning where requests differ in length."""
    assert Config.__dataclass_fields__["policy"].default is Policy.LEAST_CONN


def test_backend_is_asked_every_two_seconds_and_given_one_to_answer():
    """Three failures in a row take it out, two passes bring it back."""
    probe = ProbeConfig()

    assert (probe.interval_s, probe.timeout_s, probe.fall, probe.rise) == (2.0, 1.0, 3, 2)
    assert (probe.enabled, probe.path, probe.expect) == (True, "/", (StatusRange(200, 399),))


def test_five_failures_in_a_row_eject_for_ten_seconds_and_gateway_errors_are_failures():
    """A check may pass while every request fails. An error of the application, 500, is its own affair."""
    assert EjectConfig() == EjectConfig(after=5, time_s=10.0, share_percent=50)
    assert Config.__dataclass_fields__["eject_errors"].default is EjectErrors.GATEWAY


def test_no_time_out_covers_a_whole_response():
    """A model may think for minutes; what has a limit is silence."""
    times = TimeoutConfig()

    assert (times.connect_s, times.header_s, times.response_s) == (3.0, 10.0, None)
    assert (times.idle_s, times.send_s, times.tunnel_s, times.fin_s) == (60.0, 60.0, 3600.0, 30.0)
    assert times.drain_s == 30.0


def test_idle_client_is_kept_longer_than_a_cloud_s_load_balancer_keeps_it():
    """Whoever closes first meets a request on its way; with 60 s on both sides that is anybody."""
    assert TimeoutConfig().keepalive_s == 75.0


def test_idle_backend_connection_is_left_before_application_servers_leave_it():
    """uvicorn and Node.js close after 5 s; who closes first meets no stale connection."""
    assert TimeoutConfig().upstream_idle_s < 5


def test_queue_is_bounded_in_length_and_time():
    """It is used by backends with a limit only."""
    assert (LimitConfig().queue_depth, TimeoutConfig().queue_s) == (1024, 5.0)


def test_limits_of_a_head():
    """RFC 9112 3 asks for 8000 octets of request line at least."""
    limits = LimitConfig()

    assert (limits.line_bytes, limits.header_bytes, limits.fields) == (8192, 65_536, 100)


def test_body_is_awaited_as_far_as_it_can_be_sent_again():
    """A slow sender holds no place at a backend, and no more memory than that."""
    assert LimitConfig().request_buffer_bytes == REQUEST_KEPT_MAX_BYTES == 65_536


def test_request_meets_three_backends_at_most():
    """The first one and two others."""
    assert LimitConfig().tries == 3


def test_access_log_is_off():
    """What is not asked for costs nothing."""
    assert LogConfig().access == "off"
