"""The calls that clients and streams offer, with their arguments; how a plan is run is left to each of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from mercato_client import checks, forks
from mercato_client.channel import MAX_MESSAGE_BYTES, Endpoint
from mercato_client.errors import InvalidInput
from mercato_client.plans import Ask, Plan, Plans
from mercato_client.status import CLOSED
from mercato_client.tls import TLS

PredictionT = TypeVar("PredictionT")
ModelsT = TypeVar("ModelsT")
CatalogT = TypeVar("CatalogT")
ModelT = TypeVar("ModelT")
SignatureT = TypeVar("SignatureT")
HealthT = TypeVar("HealthT")
NoneT = TypeVar("NoneT")


class Predicts(ABC, Generic[PredictionT]):
    """Whatever a model can be called through; `PredictionT` is what a call gives."""

    def predict(
        self,
        model: str,
        inputs: object,
        *,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        priority: int | None = None,
        receipt: bool = False,
    ) -> PredictionT:
        """Call a model.

        `inputs` maps input names to values, or is a DataFrame whose columns are the inputs. Plain Python
        values and columns take the model's types; arrays must have them. Texts are str, images bytes or
        `pathlib.Path`; a single item is one row. With neither `version` nor `label` the server chooses.
        `outputs` names the wanted ones, all by default; `timeout` is in seconds, the client's own by default;
        `priority` is 1 for the most urgent to 9 for the least, and 0 is the model's default.

        Raises a MercatoError: InvalidInput, NotFound, NotReady, Overloaded, DeadlineExceeded,
        Unavailable, StaleSchema, PermissionDenied or ServerError. On a stream the future raises it.
        """
        return self._predict(Ask(model, inputs, version, label, outputs, parameters, timeout, priority, receipt))

    @abstractmethod
    def _predict(self, ask: Ask) -> PredictionT: ...


class Calls(Predicts[PredictionT], Generic[PredictionT, ModelsT, CatalogT, ModelT, SignatureT, HealthT, NoneT]):
    """All calls of a client; the types are what each of them gives."""

    def __init__(
        self,
        address: str | Sequence[str] = "localhost:8500",
        *,
        timeout: float = 10.0,
        tls: TLS | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._endpoint = Endpoint(address, tls, max_message_bytes)
        self.address = str(self._endpoint)
        self.timeout = checks.seconds(timeout)
        self._closed = False
        forks.opening()
        self._start()

    def _start(self) -> None:
        """What is to be done when the client is made."""

    def models(self) -> ModelsT:
        """Every model the server knows, failed ones included, by name."""
        found: ModelsT = self._run(Plans.models)
        return found

    def catalog(self) -> CatalogT:
        """All models, and the plugins that were refused with the reason."""
        found: CatalogT = self._run(Plans.catalog)
        return found

    def model(self, name: str) -> ModelT:
        """One model as the server describes it now. Raises NotFound."""
        found: ModelT = self._run(Plans.model, name)
        return found

    def signature(self, model: str, *, version: int | None = None, label: str | None = None) -> SignatureT:
        """The signature that `predict` encodes for, asked of the server once. Raises NotFound or NotReady."""
        found: SignatureT = self._run(Plans.signature, model, version, label)
        return found

    def health(self, model: str = "") -> HealthT:
        """The health of one model, or of the server. Raises NotFound for an unknown model."""
        found: HealthT = self._run(Plans.health, model)
        return found

    def wait_until_ready(self, timeout: float = 60.0, *, model: str = "") -> NoneT:
        """Return once the server, or one model, is SERVING. Raises NotReady or Unavailable after `timeout` seconds."""
        done: NoneT = self._run(Plans.wait, timeout, model)
        return done

    def _predict(self, ask: Ask) -> PredictionT:
        answer: PredictionT = self._run(Plans.predict, ask)
        return answer

    @abstractmethod
    def _run(self, plan: Callable[..., Plan[Any]], *arguments: Any) -> Any:
        """Do what the plan wants, and give its result."""

    def _check(self) -> None:
        """Raise InvalidInput where no call can be made any more."""
        forks.check()
        if self._closed:
            raise InvalidInput(CLOSED)
