// What every case needs: the protos without generated code, calls as promises, tensors, statuses with their details.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

export { grpc };

const PROTOS = fileURLToPath(new URL("../../../protos", import.meta.url));

const definition = protoLoader.loadSync(
  ["mercato/v1/catalog.proto", "mercato/v1/prediction.proto", "google/rpc/error_details.proto"],
  { includeDirs: [PROTOS, process.env.GOOGLEAPIS], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
);
const { mercato } = grpc.loadPackageDefinition(definition);

// As large as the server takes. Without these an answer of more than 4 MB is refused on arrival.
export const LIMIT = 16 * 2 ** 20;
export const SIZES = { "grpc.max_receive_message_length": LIMIT, "grpc.max_send_message_length": -1 };
export const PATIENCE = 60;

export const deadline = (seconds = PATIENCE) => ({ deadline: Date.now() + 1000 * seconds });

export class Wire {
  constructor(address, options = {}) {
    this.address = address;
    const credentials = grpc.credentials.createInsecure();
    this.prediction = new mercato.v1.PredictionService(address, credentials, { ...SIZES, ...options });
    this.catalog = new mercato.v1.CatalogService(address, credentials, { ...SIZES, ...options });
  }

  close() {
    this.prediction.close();
    this.catalog.close();
  }

  models() {
    return new Promise((resolve, reject) => {
      this.catalog.ListModels({}, deadline(), (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  predict(request, { metadata = new grpc.Metadata(), seconds = PATIENCE } = {}) {
    return new Promise((resolve, reject) => {
      this.prediction.Predict(request, metadata, deadline(seconds), (error, answer) =>
        error ? reject(error) : resolve(answer),
      );
    });
  }

  // The error of a request that is refused.
  async refused(request, options) {
    try {
      await this.predict(request, options);
    } catch (error) {
      return error;
    }
    throw new Error("it was answered instead of refused");
  }

  // The error of a call of any method with these bytes, or null when it is answered.
  raw(path, bytes) {
    return new Promise((resolve) => {
      const same = (data) => data;
      this.prediction.makeUnaryRequest(path, same, same, bytes, new grpc.Metadata(), deadline(), resolve);
    });
  }

  stream(seconds = PATIENCE) {
    return new Stream(this.prediction.PredictStream(new grpc.Metadata(), deadline(seconds)));
  }

  async price(quantity) {
    return round(values(await this.predict(pricing([quantity])))[0]);
  }
}

// One open stream whose answers can be awaited one by one.
export class Stream {
  #answers;

  constructor(call) {
    this.call = call;
    this.status = new Promise((resolve) => call.on("status", resolve));
    call.on("error", () => {}); // the status says it
    this.#answers = call[Symbol.asyncIterator]();
  }

  send(predict) {
    this.call.write({ predict });
  }

  cancelId(cancel_id) {
    this.call.write({ cancel_id });
  }

  halfClose() {
    this.call.end();
  }

  async next() {
    return (await this.#answers.next()).value;
  }

  async rest() {
    const found = [];
    for (let answer = await this.next(); answer; answer = await this.next()) found.push(answer);
    return found;
  }

  // The code that the stream ends with.
  async code() {
    return grpc.status[(await this.status).code];
  }
}

export const request = (model, inputs = [], more = {}) => ({ model: { name: model }, inputs, ...more });

export function tensor(name, floats, shape = [floats.length, 1]) {
  const data = Buffer.from(Float32Array.from(floats).buffer); // little-endian, as every machine that runs Node
  return { name, tensor: { dtype: "DATA_TYPE_FP32", shape, data } };
}

export const pricing = (quantities, more) => request("pricing.linear", [tensor("x", quantities)], more);

export function texts(items, more) {
  const tensor = { dtype: "DATA_TYPE_STRING", shape: [items.length], items: items.map((item) => Buffer.from(item)) };
  return request("semantic.encoder", [{ name: "text", tensor }], more);
}

export function values(answer, output = 0) {
  const { data } = answer.outputs[output].tensor;
  return new Float32Array(Uint8Array.from(data).buffer);
}

export const round = (value, digits = 1) => Number(value.toFixed(digits));

// The error of a call as plain facts.
export function told(error) {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  return facts(error.code, error.details, bytes ? definition["google.rpc.Status"].deserialize(bytes).details : []);
}

// A google.rpc.Status inside a stream as the same facts.
export const toldInBand = ({ code, message, details }) => facts(code, message, details);

function facts(code, text, details) {
  const { ErrorInfo, BadRequest } = Object.fromEntries(details.map(unpacked));
  return {
    code: grpc.status[code],
    text,
    reason: ErrorInfo?.reason ?? "",
    facts: ErrorInfo?.metadata ?? {},
    fields: (BadRequest?.field_violations ?? []).map(({ field }) => field),
  };
}

function unpacked({ type_url, value }) {
  const type = type_url.split("/").at(-1);
  return [type.split(".").at(-1), definition[type].deserialize(value)];
}
