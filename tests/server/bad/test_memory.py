"""A server's memory does not grow with the calls it answers and refuses."""

import grpc
from tests.server.bad.memory import CALLS, measure, told
from tests.server.running import Running

# Bytes a call. glibc takes pages and gives them back in steps of about 2 MiB; one such step amid 2 000 calls is a slope
# of 1.5 KiB a call, so two of them pass. A server that kept the exceptions of refused calls grew by 10 KiB a call.
STEEPEST = 3 * 1024
WARM_UP = 500


def test_memory_is_level_over_2000_mixed_calls(server: Running, channel: grpc.Channel) -> None:
    growth = measure(server, channel, CALLS, WARM_UP)
    assert 0.4 < growth.refused / growth.calls < 0.6
    assert growth.slope < STEEPEST, told(growth)
