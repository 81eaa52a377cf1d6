// node retry.mjs ADDRESS: one Predict with a retry policy; prints its code and the milliseconds it took.
import { Wire, grpc, pricing } from "./wire.mjs";

const serviceConfig = {
  methodConfig: [
    {
      name: [{ service: "mercato.v1.PredictionService", method: "Predict" }],
      retryPolicy: {
        maxAttempts: 3,
        initialBackoff: "0.05s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
      },
    },
  ],
  retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
};

const wire = new Wire(process.argv[2], { "grpc.service_config": JSON.stringify(serviceConfig) });
const start = performance.now();
const error = await wire.predict(pricing([4])).then(() => null, (refused) => refused);
const milliseconds = Math.round(performance.now() - start);
console.log(JSON.stringify({ code: grpc.status[error ? error.code : grpc.status.OK], milliseconds }));
wire.close();
