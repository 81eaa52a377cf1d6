"""ListModels and GetModel: the catalog as wire messages."""

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from mercato.v1 import catalog_pb2
from mercato_server.contract.call import Call
from mercato_server.contract.certificate import Certificate
from mercato_server.contract.plugin import PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.errors import NotFound
from mercato_server.rpc.access import ANY, Access
from mercato_server.rpc.interceptor import Handler
from mercato_server.rpc.signature import signature_message
from mercato_server.rpc.wire import parsed
from mercato_server.serving.catalog import Catalog, Version

CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].full_name

_KINDS = {
    "source": catalog_pb2.CERTIFICATE_KIND_SOURCE,
    "recorded": catalog_pb2.CERTIFICATE_KIND_RECORDED,
    "self": catalog_pb2.CERTIFICATE_KIND_SELF,
}


class CatalogMethods:
    """The methods of CatalogService over one catalog."""

    def __init__(self, catalog: Catalog, access: Access, max_fields: int) -> None:
        self._catalog = catalog
        self._access = access
        self._max_fields = max_fields

    def unary(self) -> dict[str, Handler]:
        """The methods by name."""
        return {"ListModels": self.list_models, "GetModel": self.get_model}

    async def list_models(self, call: Call) -> bytes:
        """Every model the caller may see, and to those who may see all also the refused plugins."""
        parsed(catalog_pb2.ListModelsRequest, call.request, self._max_fields)
        names = [name for name in sorted(self._catalog.models) if self._access.sees(call, name)]
        refused = self._catalog.refused if self._access.sees(call, ANY) else ()
        response = catalog_pb2.ListModelsResponse(
            models=[self._model(name, self._catalog.model(name).values()) for name in names],
            refused_plugins=[_refused(refusal) for refusal in refused],
        )
        return response.SerializeToString()

    async def get_model(self, call: Call) -> bytes:
        """One model; all its versions, or the one that the reference names."""
        reference = parsed(catalog_pb2.GetModelRequest, call.request, self._max_fields).model
        self._access.check_model(call, reference.name)
        call.model = reference.name if reference.name in self._catalog.models else ""
        selector = reference.WhichOneof("selector")
        if selector is None:
            versions: Iterable[Version] = self._catalog.model(reference.name).values()
        elif selector == "version":
            versions = [self._catalog.find(reference.name, number=reference.version)]
        else:
            versions = [self._catalog.find(reference.name, label=reference.label)]
        return catalog_pb2.GetModelResponse(model=self._model(reference.name, versions)).SerializeToString()

    def _model(self, name: str, versions: Iterable[Version]) -> catalog_pb2.Model:
        ordered = sorted(versions, key=lambda version: -version.number)
        newest = ordered[0]
        return catalog_pb2.Model(
            name=name,
            plugin=plugin_message(newest.plugin),
            doc=newest.spec.doc,
            license=newest.spec.license,
            languages=newest.spec.languages,
            versions=[_version(version) for version in ordered],
            labels=self._catalog.labels.get(name, {}),
            default_version=self._default(name),
        )

    def _default(self, name: str) -> int:
        try:
            return self._catalog.find(name).number
        except NotFound:  # its label stable means a version that is not there
            return 0


def _version(version: Version) -> catalog_pb2.ModelVersion:
    status = version.status
    return catalog_pb2.ModelVersion(
        version=version.number,
        state=state_number(status.state),
        reason=status.reason,
        since=timestamp(status.since),
        digest=version.digest,
        signature=signature_message(version.spec, version.fingerprint),
        certificate=_certificate(version.certificate) if version.certificate else None,
        providers=version.providers,
        max_rows=version.spec.batch.rows_per_request,
        batch_rows=version.spec.batch.max_rows,
        memory_bytes=version.nbytes,
        metrics=version.metrics,
    )


def _certificate(certificate: Certificate) -> catalog_pb2.Certificate:
    return catalog_pb2.Certificate(
        kind=_KINDS[certificate.kind],
        passed=certificate.passed,
        cases=len(certificate.cases),
        errors=[
            catalog_pb2.OutputError(output=e.output, max_abs=e.max_abs, rel_l2=e.rel_l2, tolerance=e.tolerance)
            for e in certificate.errors
        ],
        opset=certificate.opset,
        provider=certificate.provider,
        tools=certificate.tools,
        created=timestamp(certificate.created),
        checks=certificate.checks,
    )


def state_number(state: State) -> "catalog_pb2.ModelState.ValueType":
    """A state on the wire."""
    return catalog_pb2.ModelState.Value(f"MODEL_STATE_{state.value}")


def plugin_message(info: PluginInfo) -> catalog_pb2.Plugin:
    """A distribution on the wire."""
    return catalog_pb2.Plugin(distribution=info.distribution, version=info.version)


def _refused(refusal: Refusal) -> catalog_pb2.RefusedPlugin:
    return catalog_pb2.RefusedPlugin(
        plugin=plugin_message(refusal.plugin),
        entry_point=refusal.plugin.entry_point,
        code=refusal.code,
        reason=refusal.reason,
        model=refusal.model,
        version=refusal.version,
    )


def timestamp(seconds: float) -> Timestamp:
    """A second in Unix time on the wire."""
    stamp = Timestamp()
    stamp.FromNanoseconds(round(seconds * 1e9))
    return stamp
