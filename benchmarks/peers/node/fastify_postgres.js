// Fastify with postgres.js, as their documentation teaches: SQL by hand in tagged templates, and schemas that check
// what comes in and write what goes out.

import { createHash } from "node:crypto";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import Fastify from "fastify";
import postgres from "postgres";
import { v7 as uuid7 } from "uuid";

const sql = postgres({ max: 10 });
const ajv = addFormats(new Ajv2020({ strict: false }));
const validators = new Map();

const text = { type: "string" };
const maybeText = { type: "string", nullable: true };
const id = { type: "string", format: "uuid" };
const texts = { type: "array", items: text };
const anything = { type: "object", additionalProperties: true };

const summary = {
  id: text,
  version: { type: "integer" },
  name: text,
  style: maybeText,
  tags: texts,
  visibility: text,
  owner: { type: "object", properties: { id: text, username: text } },
  template: { type: "object", nullable: true, properties: { id: text, version: { type: "integer" } } },
  portrait: { type: "null", default: null },
  created_at: text,
  updated_at: text,
};
const whole = {
  type: "object",
  properties: {
    ...summary,
    description: text,
    prompt: maybeText,
    attributes: anything,
    extensions: anything,
    forked_from: maybeText,
  },
};
const page = {
  type: "object",
  properties: { items: { type: "array", items: { type: "object", properties: summary } }, next_cursor: maybeText },
};
const list = {
  type: "object",
  additionalProperties: false,
  properties: {
    limit: { type: "integer", minimum: 1, maximum: 100, default: 20 },
    cursor: text,
    style: text,
    tags: text,
    q: text,
    sort: { const: "-created_at" },
  },
};
const creation = {
  type: "object",
  additionalProperties: false,
  required: ["name", "template"],
  properties: {
    name: { type: "string", minLength: 1, maxLength: 120 },
    description: { type: "string", maxLength: 10_000, default: "" },
    style: { ...maybeText, default: null },
    tags: { ...texts, maxItems: 20, default: [] },
    visibility: { ...text, default: "private" },
    attributes: { type: "object", default: {} },
    template: id,
  },
};
const change = {
  type: "object",
  additionalProperties: false,
  properties: {
    name: { type: "string", minLength: 1, maxLength: 120 },
    description: { type: "string", maxLength: 10_000 },
  },
};
const one = { type: "object", properties: { id } };

const SUMMARY = sql`
  c.id, c.version, c.name, c.style, c.tags, c.visibility,
  json_build_object('id', o.id, 'username', o.username) AS owner,
  CASE WHEN c.template IS NOT NULL THEN json_build_object('id', c.template, 'version', c.template_version) END
    AS template,
  to_char(c.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at,
  to_char(c.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at
`;
const WHOLE = sql`${SUMMARY}, c.description, c.prompt, c.attributes, c.extensions, c.forked_from`;

const app = Fastify({ ajv: { customOptions: { removeAdditional: false } } });
app.decorateRequest("user", null);

app.get("/v1/characters/:id", { schema: { params: one, response: { 200: whole } } }, async (request, reply) => {
  const [character] = await sql`
    SELECT ${WHOLE} FROM characters c JOIN users o ON o.id = c.owner
    WHERE c.id = ${request.params.id} AND c.deleted_at IS NULL AND c.visibility <> 'private'
  `;
  if (!character) return reply.code(404).send();
  const etag = `"${character.id}-${character.version}"`;
  reply.header("etag", etag);
  return request.headers["if-none-match"] === etag ? reply.code(304).send() : character;
});

app.get("/v1/characters", { schema: { querystring: list, response: { 200: page } } }, async (request) => {
  const { limit, cursor, style, tags, q } = request.query;
  const [createdAt, last] = cursor ? Buffer.from(cursor, "base64url").toString().split("|") : [];
  // A time goes as text: a Date has no microseconds.
  const rows = await sql`
    SELECT ${SUMMARY} FROM characters c JOIN users o ON o.id = c.owner
    WHERE c.deleted_at IS NULL AND c.visibility = 'public'
    ${cursor ? sql`AND (c.created_at, c.id) < (${createdAt}::text::timestamptz, ${last})` : sql``}
    ${style ? sql`AND c.style = ${style}` : sql``}
    ${tags ? sql`AND c.tags @> ${tags.split(",")}::varchar[]` : sql``}
    ${q ? sql`AND c.search @@ websearch_to_tsquery('simple', plain(${q}))` : sql``}
    ORDER BY c.created_at DESC, c.id DESC LIMIT ${limit + 1}
  `;
  const items = rows.slice(0, limit);
  const end = items.at(-1);
  const next = rows.length > limit ? Buffer.from(`${end.created_at}|${end.id}`).toString("base64url") : null;
  return { items, next_cursor: next };
});

app.post(
  "/v1/characters",
  { onRequest: authenticate, schema: { body: creation, response: { 201: whole } } },
  async (request, reply) => {
    const { attributes, template, ...given } = request.body;
    const [version] = await sql`
      SELECT v.number, v.attribute_schema::text FROM template_versions v
      JOIN templates t ON t.id = v.template AND t.newest_version = v.number
      WHERE t.id = ${template} AND t.visibility = 'public' AND t.retired_at IS NULL
    `;
    if (!version) return reply.code(404).send();
    const isValid = validator(template, version);
    if (!isValid(attributes)) return reply.code(422).send(isValid.errors);
    const row = {
      ...given,
      id: uuid7(),
      owner: request.user,
      attributes: sql.json(attributes),
      template,
      template_version: version.number,
    };
    const [character] = await sql`
      WITH c AS (INSERT INTO characters ${sql(row)} RETURNING *)
      SELECT ${WHOLE} FROM c JOIN users o ON o.id = c.owner
    `;
    reply.code(201).headers({ etag: `"${character.id}-1"`, location: `/v1/characters/${character.id}` });
    return character;
  },
);

app.patch(
  "/v1/characters/:id",
  { onRequest: authenticate, schema: { params: one, body: change, response: { 200: whole } } },
  async (request, reply) => {
    const match = request.headers["if-match"];
    const version = match && Number(/-(\d+)"$/.exec(match)?.[1] ?? 0);
    const { name = null, description = null } = request.body;
    const [character] = await sql`
      WITH c AS (
        UPDATE characters SET name = coalesce(${name}, name), description = coalesce(${description}, description),
          version = version + 1, updated_at = now()
        WHERE id = ${request.params.id} AND owner = ${request.user} AND deleted_at IS NULL
          ${match ? sql`AND version = ${version}` : sql``} RETURNING *
      )
      SELECT ${WHOLE} FROM c JOIN users o ON o.id = c.owner
    `;
    if (!character) return reply.code(match ? 412 : 404).send();
    reply.header("etag", `"${character.id}-${character.version}"`);
    return character;
  },
);

async function authenticate(request, reply) {
  const token = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  const [user] = await sql`
    SELECT u.id FROM tokens t JOIN users u ON u.id = t.user
    WHERE t.digest = ${createHash("sha256").update(token).digest()} AND u.status = 'active'
      AND (t.expires_at IS NULL OR t.expires_at > now())
  `;
  if (!user) return reply.code(401).send();
  request.user = user.id;
}

function validator(template, { number, attribute_schema }) {
  const key = `${template}/${number}`;
  if (!validators.has(key)) validators.set(key, ajv.compile(JSON.parse(attribute_schema)));
  return validators.get(key);
}

await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
