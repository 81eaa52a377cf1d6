// The cases with @grpc/grpc-js; each gives the facts that `stubs.py` gives.
import {
  LIMIT, Wire, grpc, pricing, request, round, tensor, texts, told, toldInBand, values,
} from "./wire.mjs";

const LONG = Array(64).fill("x".repeat(8192));
const TEXTS = ["红色跑鞋", "red running shoes", "Ünïcode 😈"];
const wide = (floats, shape, more) => request("test.wide", [tensor("x", floats, shape)], more);
const gated = (x, request_id) => request("test.gate", [tensor("x", [x])], { request_id });
const shape = (answer) => answer.outputs[0].tensor.shape.map(Number);
const attempt = async (wire, sent) => told(await wire.refused(sent));
const code = (error) => grpc.status[error ? error.code : grpc.status.OK];
const serialized = (wire, sent) => wire.prediction.constructor.service.Predict.requestSerialize(sent);
const PREDICT = "/mercato.v1.PredictionService/Predict";

export async function empty_unary(wire) {
  const { models } = await wire.models();
  return { models: models.map(({ name }) => name), predict: await attempt(wire, {}) };
}

export async function large_unary(wire) {
  const answer = await wire.predict(texts(LONG));
  return { shape: shape(answer), norms: norms(answer) };
}

export async function large_answer(wire) {
  const x = Float32Array.from({ length: 32 * 32_768 }, (_, index) => index);
  const answer = await wire.predict(wide(x, [32, 32_768]));
  const { data } = answer.outputs[0].tensor;
  return { shape: shape(answer), bytes: data.length, equal: data.equals(Buffer.from(x.buffer)) };
}

export async function message_limit(wire) {
  const at = code(await wire.raw(PREDICT, padded(wire, LIMIT)));
  const over = code(await wire.raw(PREDICT, padded(wire, LIMIT + 1)));
  return { at, over, then: await wire.price(4) };
}

export async function client_compressed_unary(wire) {
  const { gzip, deflate } = grpc.compressionAlgorithms;
  const found = {};
  for (const [name, kind] of Object.entries({ gzip, deflate })) {
    const own = new Wire(wire.address, { "grpc.default_compression_algorithm": kind });
    found[name] = shape(await own.predict(texts(LONG)));
    own.close();
  }
  return found;
}

export async function client_compressed_streaming(wire) {
  const own = new Wire(wire.address, { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip });
  const sent = [0, 1, 2, 3].map((number) => pricing([number], { request_id: String(number) }));
  const found = await conversation(own.stream(), sent);
  own.close();
  return found;
}

export async function ping_pong(wire) {
  const stream = wire.stream();
  const found = [];
  for (let number = 0; number < 50; number += 1) {
    stream.send(pricing([number], { request_id: String(number) }));
    const { request_id, ok } = await stream.next();
    found.push([request_id, round(values(ok)[0])]);
  }
  stream.halfClose();
  return { values: found, left: (await stream.rest()).length, code: await stream.code() };
}

export const empty_stream = (wire) => conversation(wire.stream(), []);

export const client_streaming = (wire) =>
  conversation(wire.stream(), [64, 1, 17, 33].map((n) => pricing(Array(n).fill(2), { request_id: String(n) })));

export async function server_streaming(wire) {
  const stream = wire.stream();
  stream.send(gated(1, "slow"));
  stream.send(wide([1], [1, 1], { request_id: "quick" }));
  const first = await stream.next();
  stream.cancelId("slow");
  const second = await stream.next();
  stream.halfClose();
  const order = [first.request_id, second.request_id];
  return { order, code: code(second.error), left: (await stream.rest()).length };
}

export async function custom_metadata(wire) {
  const metadata = new grpc.Metadata();
  metadata.set("x-request-id", "interop-1");
  metadata.set("x-grpc-test-echo-trailing-bin", Buffer.from([0xab, 0xab, 0xab]));
  metadata.set("x-empty", "");
  const answer = await wire.predict(pricing([4]), { metadata });
  const error = await wire.refused(request("no.model"), { metadata });
  const own = await wire.predict(pricing([4], { request_id: "own" }), { metadata });
  return { answer: answer.request_id, error: error.metadata.get("x-request-id")[0], own: own.request_id };
}

export async function status_code_and_message(wire) {
  const wrong = pricing([4]);
  wrong.inputs[0].tensor = { dtype: "DATA_TYPE_FP64", shape: [1, 1], data: Buffer.alloc(8) };
  const refused = [wrong, request("no.model")];
  const stream = wire.stream();
  const [rpc, in_band] = [[], []];
  for (const [number, sent] of refused.entries()) {
    rpc.push(await attempt(wire, sent));
    stream.send({ ...sent, request_id: String(number) });
    in_band.push(toldInBand((await stream.next()).error));
  }
  stream.halfClose();
  return { rpc, in_band, left: (await stream.rest()).length };
}

export const special_status_message = async (wire) => ({
  plugin: await attempt(wire, wide([-1], [1, 1])),
  name: await attempt(wire, request("红色跑鞋\t\n😈")),
});

export const unimplemented_method = async (wire) =>
  told(await wire.raw("/mercato.v1.PredictionService/Nothing", Buffer.alloc(0)));

export const unimplemented_service = async (wire) =>
  told(await wire.raw("/mercato.v1.NothingService/Predict", Buffer.alloc(0)));

export async function cancel_after_begin(wire) {
  const stream = wire.stream();
  stream.call.cancel();
  return { code: await stream.code(), then: await wire.price(4) };
}

export async function cancel_after_first_response(wire) {
  const stream = wire.stream();
  stream.send(pricing([4], { request_id: "first" }));
  const { request_id } = await stream.next();
  stream.call.cancel();
  return { first: request_id, code: await stream.code(), then: await wire.price(4) };
}

export async function timeout_on_sleeping_server(wire) {
  const unary = code(await wire.refused(gated(1, "asleep"), { seconds: 1.0 }));
  const stream = wire.stream(1.0);
  stream.send(gated(1, "behind"));
  return { unary, stream: await stream.code() };
}

export async function rpc_soak(wire) {
  const found = new Set();
  for (let number = 0; number < 300; number += 1) found.add(await wire.price(4));
  return { values: [...found] };
}

export async function channel_soak(wire) {
  const found = new Set();
  for (let number = 0; number < 20; number += 1) {
    const own = new Wire(wire.address, { "grpc.use_local_subchannel_pool": 1 });
    found.add(await own.price(4));
    own.close();
  }
  return { values: [...found] };
}

export async function numbers(wire) {
  const x = Float32Array.from([0.5, -0, 1e-42, 3.4e38, 2 ** 24 + 1]);
  const answer = await wire.predict(wide(x, [1, 5], { want_receipt: true }));
  const far = request("test.wide");
  far.model.version = "9007199254740993";
  return {
    equal: answer.outputs[0].tensor.data.equals(Buffer.from(x.buffer)),
    version: answer.model.version,
    rows: answer.receipt.batch_rows,
    measured: Number(answer.receipt.compute_ns) > 0,
    far: (await attempt(wire, far)).text,
  };
}

export async function vectors(wire) {
  const answer = await wire.predict(texts(TEXTS));
  return { price: await wire.price(4), vectors: rows(answer) };
}

async function conversation(stream, sent) {
  for (const message of sent) stream.send(message);
  stream.halfClose();
  const answers = (await stream.rest()).map(({ request_id, ok }) => [request_id, shape(ok)]);
  return { rows: Object.fromEntries(answers), code: await stream.code() };
}

// A good request of exactly so many bytes; the rest is a field that the server does not know.
function padded(wire, size) {
  const message = serialized(wire, pricing([4]));
  const rest = size - message.length - 6; // two bytes of tag, four of length
  const length = [0, 7, 14, 21].map((shift) => ((rest >> shift) & 0x7f) | (shift < 21 ? 0x80 : 0));
  return Buffer.concat([message, Buffer.from([0xa2, 0x06, ...length]), Buffer.alloc(rest)]);
}

function rows(answer) {
  const [count, width] = shape(answer);
  const flat = values(answer);
  return Array.from({ length: count }, (_, row) => [...flat.subarray(row * width, (row + 1) * width)]);
}

// The lengths of the rows, each once.
const norms = (answer) => [...new Set(rows(answer).map((row) => round(Math.hypot(...row), 3)))].sort();
