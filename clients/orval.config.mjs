// orval: functions on fetch, and zod schemas of what they send and receive.
const input = process.env.OPENAPI;
const output = process.env.OUTPUT;
// A function takes one kind of body: pictures are sent as forms.
const override = { contentType: { exclude: ["application/octet-stream", "image/*"] } };

export default {
  fetch: { input, output: { target: `${output}/api.ts`, client: "fetch", baseUrl: { runtime: "process.env.API" }, override } },
  zod: { input, output: { target: `${output}/schemas.ts`, client: "zod" } },
};
