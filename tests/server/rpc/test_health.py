"""Watch of health: whatever happens while it writes, it tells the last state."""

from grpc_health.v1 import health_pb2

from mercato_server.rpc.health import NOT_SERVING, SERVING, Health


class Slow:
    """A call whose first write takes so long that the server stops meanwhile."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self.told: list[int] = []

    async def write(self, answer: health_pb2.HealthCheckResponse) -> None:
        self.told.append(answer.status)
        self._health.shut()


async def test_a_stop_while_a_state_is_written_is_told_too() -> None:
    health = Health()
    health.set("", True)
    call = Slow(health)
    await health.Watch(health_pb2.HealthCheckRequest(), call)
    assert call.told == [SERVING, NOT_SERVING]
