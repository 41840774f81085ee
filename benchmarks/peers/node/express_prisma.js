// Express with Prisma, as their documentation teaches: what every production application puts in front, selects with
// their relations, pages by Prisma's cursor, and SQL only for the search that Prisma has no words for.

import { createHash } from "node:crypto";
import { PrismaPg } from "@prisma/adapter-pg";
import { Prisma, PrismaClient } from "@prisma/client";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import cors from "cors";
import express from "express";
import { rateLimit } from "express-rate-limit";
import helmet from "helmet";
import { validate as isUuid } from "uuid";

const prisma = new PrismaClient({ adapter: new PrismaPg({ max: 10 }) });
const ajv = addFormats(new Ajv2020({ strict: false, useDefaults: true, coerceTypes: true }));
const templateAjv = addFormats(new Ajv2020({ strict: false }));
const validators = new Map();

const SUMMARY = {
  id: true,
  version: true,
  name: true,
  style: true,
  tags: true,
  visibility: true,
  owner: { select: { id: true, username: true } },
  template_id: true,
  template_version: true,
  created_at: true,
  updated_at: true,
};
const WHOLE = {
  ...SUMMARY,
  description: true,
  prompt: true,
  attributes: true,
  extensions: true,
  forked_from: true,
};

const isQuery = ajv.compile({
  type: "object",
  additionalProperties: false,
  properties: {
    limit: { type: "integer", minimum: 1, maximum: 100, default: 20 },
    cursor: { type: "string", format: "uuid" },
    style: { type: "string" },
    tags: { type: "string" },
    q: { type: "string" },
    sort: { const: "-created_at" },
  },
});
const isCreation = ajv.compile({
  type: "object",
  additionalProperties: false,
  required: ["name", "template"],
  properties: {
    name: { type: "string", minLength: 1, maxLength: 120 },
    description: { type: "string", maxLength: 10_000, default: "" },
    style: { type: "string", nullable: true },
    tags: { type: "array", items: { type: "string" }, maxItems: 20, default: [] },
    visibility: { type: "string", default: "private" },
    attributes: { type: "object", default: {} },
    template: { type: "string", format: "uuid" },
  },
});
const isChange = ajv.compile({
  type: "object",
  additionalProperties: false,
  properties: {
    name: { type: "string", minLength: 1, maxLength: 120 },
    description: { type: "string", maxLength: 10_000 },
  },
});

const app = express();
app.use(helmet());
app.use(cors());
app.use(rateLimit({ windowMs: 60_000, limit: 1_000_000_000, standardHeaders: "draft-8", legacyHeaders: false }));
app.use(express.json());
app.param("id", (_request, response, next, id) => (isUuid(id) ? next() : response.sendStatus(404)));

app.get("/v1/characters/:id", async (request, response) => {
  const character = await prisma.character.findFirst({
    where: { id: request.params.id, deleted_at: null, visibility: { not: "private" } },
    select: WHOLE,
  });
  if (!character) return response.sendStatus(404);
  response.set("ETag", `"${character.id}-${character.version}"`).json(shown(character));
});

app.get("/v1/characters", async (request, response) => {
  const query = { ...request.query };
  if (!isQuery(query)) return response.status(400).json(isQuery.errors);
  const { limit, cursor, style, tags, q } = query;
  const found = q
    ? await search(query)
    : await prisma.character.findMany({
        where: { deleted_at: null, visibility: "public", style, tags: tags && { hasEvery: tags.split(",") } },
        select: SUMMARY,
        orderBy: [{ created_at: "desc" }, { id: "desc" }],
        take: limit + 1,
        ...(cursor && { cursor: { id: cursor }, skip: 1 }),
      });
  const items = found.slice(0, limit).map(shown);
  response.json({ items, next_cursor: found.length > limit ? items.at(-1).id : null });
});

app.post("/v1/characters", authenticate, async (request, response) => {
  if (!isCreation(request.body)) return response.status(422).json(isCreation.errors);
  const { template: template_id, ...given } = request.body;
  const template = await prisma.template.findUnique({
    where: { id: template_id, visibility: "public", retired_at: null },
    select: { newest_version: true },
  });
  if (!template) return response.sendStatus(404);
  const isValid = await validator(template_id, template.newest_version);
  if (!isValid(given.attributes)) return response.status(422).json(isValid.errors);
  const character = await prisma.character.create({
    data: { ...given, owner_id: request.user.id, template_id, template_version: template.newest_version },
    select: WHOLE,
  });
  response.status(201).location(`/v1/characters/${character.id}`);
  response.set("ETag", `"${character.id}-${character.version}"`).json(shown(character));
});

app.patch("/v1/characters/:id", authenticate, async (request, response) => {
  if (!isChange(request.body)) return response.status(422).json(isChange.errors);
  const match = request.get("If-Match");
  const version = match && Number(/-(\d+)"$/.exec(match)?.[1] ?? 0);
  try {
    const character = await prisma.character.update({
      where: { id: request.params.id, owner_id: request.user.id, deleted_at: null, version },
      data: { ...request.body, version: { increment: 1 } },
      select: WHOLE,
    });
    response.set("ETag", `"${character.id}-${character.version}"`).json(shown(character));
  } catch (error) {
    if (error.code !== "P2025") throw error; // nothing to update
    response.sendStatus(match ? 412 : 404);
  }
});

async function authenticate(request, response, next) {
  const token = (request.get("Authorization") ?? "").replace(/^Bearer /, "");
  const found = await prisma.token.findUnique({
    where: { digest: createHash("sha256").update(token).digest() },
    select: { expires_at: true, user: { select: { id: true, status: true } } },
  });
  if (found?.user.status !== "active" || (found.expires_at && found.expires_at < new Date())) {
    return response.sendStatus(401);
  }
  request.user = found.user;
  next();
}

function search({ q, cursor, style, tags, limit }) {
  const last = Prisma.sql`SELECT created_at, id FROM characters WHERE id = ${cursor}::uuid`;
  return prisma.$queryRaw`
    SELECT c.id, c.version, c.name, c.style, c.tags, c.visibility,
      json_build_object('id', o.id, 'username', o.username) AS owner,
      c.template AS template_id, c.template_version, c.created_at, c.updated_at
    FROM characters c JOIN users o ON o.id = c.owner
    WHERE c.deleted_at IS NULL AND c.visibility = 'public'
      AND c.search @@ websearch_to_tsquery('simple', plain(${q}))
      ${style ? Prisma.sql`AND c.style = ${style}` : Prisma.empty}
      ${tags ? Prisma.sql`AND c.tags @> ${tags.split(",")}::varchar[]` : Prisma.empty}
      ${cursor ? Prisma.sql`AND (c.created_at, c.id) < (${last})` : Prisma.empty}
    ORDER BY c.created_at DESC, c.id DESC LIMIT ${limit + 1}
  `;
}

async function validator(template_id, number) {
  const key = `${template_id}/${number}`;
  if (!validators.has(key)) {
    const { attribute_schema } = await prisma.templateVersion.findUnique({
      where: { template_id_number: { template_id, number } },
    });
    validators.set(key, templateAjv.compile(attribute_schema));
  }
  return validators.get(key);
}

function shown({ template_id, template_version, ...character }) {
  return { ...character, template: template_id && { id: template_id, version: template_version }, portrait: null };
}

app.listen(Number(process.env.PORT), "127.0.0.1");
