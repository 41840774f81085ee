// @hey-api/openapi-ts: the TypeScript package that `make clients` builds.
export default {
  input: process.env.OPENAPI,
  output: { path: process.env.OUTPUT, module: { extension: ".js" } },
  logs: { file: false },
  plugins: ["@hey-api/client-fetch", "@hey-api/typescript", { name: "@hey-api/sdk", validator: false }],
};
