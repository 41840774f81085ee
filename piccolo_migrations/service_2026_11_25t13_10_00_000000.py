"""Adds what Piccolo cannot generate: a composite foreign key, triggers, functions, extensions, and the indexes that are
partial, composite or on expressions."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from service.database.migrations import add_statements

ID = "2026-11-25T13:10:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "Add the indexes, triggers, functions and extensions that Piccolo cannot generate"

LIVING = "WHERE deleted_at IS NULL"
PUBLIC = "WHERE visibility = 'public' AND NOT owner_inactive AND deleted_at IS NULL"

# Each statement, and the statement that undoes it
PINNED_VERSION = [
    (
        "ALTER TABLE characters ADD CONSTRAINT pinned_to_a_known_version FOREIGN KEY (template, template_version)"
        " REFERENCES template_versions (template, number) ON DELETE RESTRICT ON UPDATE RESTRICT",
        "ALTER TABLE characters DROP CONSTRAINT pinned_to_a_known_version",
    ),
]

# A pair of characters has a relationship of each type once, in whichever direction it was created.
RELATIONSHIPS = [
    (
        "CREATE UNIQUE INDEX one_relationship_of_a_type_per_pair ON relationships ("
        "least(source, target), greatest(source, target), type,"
        " least(label, inverse_label), greatest(label, inverse_label))",
        "DROP INDEX one_relationship_of_a_type_per_pair",
    ),
    (
        "CREATE INDEX relationships_of_source ON relationships (source, created_at, id)",
        "DROP INDEX relationships_of_source",
    ),
    (
        "CREATE INDEX relationships_of_target ON relationships (target, created_at, id)",
        "DROP INDEX relationships_of_target",
    ),
]

# The feed of changes reads characters in the order of the transactions that wrote them. A write by
# another trigger does not change a character. The index also serves the foreign key to the owner.
CHANGES = [
    (
        "CREATE FUNCTION number_transaction() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.written_in := pg_current_xact_id()::text::bigint; RETURN NEW; END $$",
        "DROP FUNCTION number_transaction()",
    ),
    (
        "CREATE TRIGGER number_transaction BEFORE INSERT OR UPDATE ON characters"
        " FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION number_transaction()",
        "DROP TRIGGER number_transaction ON characters",
    ),
    ("CREATE INDEX characters_changed ON characters (owner, written_in, id)", "DROP INDEX characters_changed"),
]

# A row tells whether its owner is inactive, so that the partial indexes of public rows can leave it out. A suspension
# takes the stronger lock on the user and so waits for the inserts under way; later inserts wait for the suspension.
INACTIVE_OWNERS = [
    (
        "CREATE FUNCTION copy_owner_status() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM FROM users WHERE id = NEW.owner FOR KEY SHARE;"  # apart, as only the next statement sees what came
        " SELECT status <> 'active' INTO NEW.owner_inactive FROM users WHERE id = NEW.owner;"
        " NEW.owner_inactive := coalesce(NEW.owner_inactive, false);"
        " RETURN NEW; END $$",
        "DROP FUNCTION copy_owner_status()",
    ),
    (
        "CREATE TRIGGER owner_status_of_characters BEFORE INSERT OR UPDATE OF owner ON characters"
        " FOR EACH ROW EXECUTE FUNCTION copy_owner_status()",
        "DROP TRIGGER owner_status_of_characters ON characters",
    ),
    (
        "CREATE TRIGGER owner_status_of_templates BEFORE INSERT OR UPDATE OF owner ON templates"
        " FOR EACH ROW EXECUTE FUNCTION copy_owner_status()",
        "DROP TRIGGER owner_status_of_templates ON templates",
    ),
    (
        "CREATE FUNCTION spread_user_status() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM FROM users WHERE id = NEW.id FOR UPDATE;"
        " UPDATE characters SET owner_inactive = NEW.status <> 'active' WHERE owner = NEW.id;"
        " UPDATE templates SET owner_inactive = NEW.status <> 'active' WHERE owner = NEW.id;"
        " RETURN NULL; END $$",
        "DROP FUNCTION spread_user_status()",
    ),
    (
        "CREATE TRIGGER spread_user_status AFTER UPDATE OF status ON users"
        " FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION spread_user_status()",
        "DROP TRIGGER spread_user_status ON users",
    ),
]

# Search ignores case and accents. An index needs an immutable function, so the dictionary is named, not looked up.
SEARCH = [
    ("CREATE EXTENSION IF NOT EXISTS unaccent", None),  # never dropped: another application may use it
    ("CREATE EXTENSION IF NOT EXISTS pg_trgm", None),
    (
        "CREATE FUNCTION plain(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE"
        " RETURN lower(unaccent('unaccent'::regdictionary, words))",
        "DROP FUNCTION plain(text)",
    ),
    (
        "CREATE FUNCTION character_words(name text, description text, tags text[]) RETURNS tsvector"
        " LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN"
        " setweight(to_tsvector('simple', plain(name)), 'A')"
        " || setweight(to_tsvector('simple', plain(array_to_string(tags, ' '))), 'B')"
        " || setweight(to_tsvector('simple', plain(description)), 'C')",
        "DROP FUNCTION character_words(text, text, text[])",
    ),
    (
        "ALTER TABLE characters ADD COLUMN search tsvector"
        " GENERATED ALWAYS AS (character_words(name, description, tags)) STORED",
        "ALTER TABLE characters DROP COLUMN search",
    ),
    (f"CREATE INDEX characters_search ON characters USING gin (search) {LIVING}", "DROP INDEX characters_search"),
    (
        f"CREATE INDEX characters_name_alike ON characters USING gin (plain(name) gin_trgm_ops) {LIVING}",
        "DROP INDEX characters_name_alike",
    ),
]

FILTERS = [
    (f"CREATE INDEX characters_tags ON characters USING gin (tags) {LIVING}", "DROP INDEX characters_tags"),
    (
        f"CREATE INDEX characters_attributes ON characters USING gin (attributes) {LIVING}",
        "DROP INDEX characters_attributes",
    ),
    (f"CREATE INDEX characters_style ON characters (style) {LIVING}", "DROP INDEX characters_style"),
]

# The keyset of each list: a caller's own rows and the public ones, by each sort order.
LISTS = [
    (
        f"CREATE INDEX characters_owned ON characters (owner, created_at, id) {LIVING}",
        "DROP INDEX characters_owned",
    ),
    (f"CREATE INDEX characters_public ON characters (created_at, id) {PUBLIC}", "DROP INDEX characters_public"),
    (
        f"CREATE INDEX characters_owned_by_change ON characters (owner, updated_at, id) {LIVING}",
        "DROP INDEX characters_owned_by_change",
    ),
    (
        f"CREATE INDEX characters_public_by_change ON characters (updated_at, id) {PUBLIC}",
        "DROP INDEX characters_public_by_change",
    ),
    (
        f'CREATE INDEX characters_owned_by_name ON characters (owner, lower(name) COLLATE "C", id) {LIVING}',
        "DROP INDEX characters_owned_by_name",
    ),
    (
        f'CREATE INDEX characters_public_by_name ON characters (lower(name) COLLATE "C", id) {PUBLIC}',
        "DROP INDEX characters_public_by_name",
    ),
    ("CREATE INDEX templates_owned ON templates (owner, created_at, id)", "DROP INDEX templates_owned"),
    (
        "CREATE INDEX templates_public ON templates (created_at, id)"
        " WHERE visibility = 'public' AND NOT owner_inactive",
        "DROP INDEX templates_public",
    ),
]

# `piccolo service collect_files` finds the rows that refer to a file.
FILES = [
    (
        "CREATE INDEX characters_portrait ON characters (portrait) WHERE portrait IS NOT NULL",
        "DROP INDEX characters_portrait",
    ),
    ("CREATE INDEX users_avatar ON users (avatar) WHERE avatar IS NOT NULL", "DROP INDEX users_avatar"),
    (
        "CREATE INDEX revisions_portrait ON revisions ((replaced ->> 'portrait'))"
        " WHERE replaced ->> 'portrait' IS NOT NULL",
        "DROP INDEX revisions_portrait",
    ),
]

# The audit log is append-only. Retention is the one exception: a transaction that sets audit_log.purging may delete
# entries that are more than 30 days old.
AUDIT_LOG = [
    (
        "CREATE FUNCTION keep_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF TG_OP = 'DELETE' THEN"
        "  IF current_setting('audit_log.purging', true) = 'on' AND OLD.created_at < now() - interval '30 days' THEN"
        "   RETURN OLD;"
        "  END IF;"
        " END IF;"
        " RAISE EXCEPTION 'The audit log is append-only.' USING ERRCODE = 'insufficient_privilege';"
        " END $$",
        "DROP FUNCTION keep_audit_log()",
    ),
    (
        "CREATE TRIGGER keep_audit_log BEFORE UPDATE OR DELETE ON audit_log"
        " FOR EACH ROW EXECUTE FUNCTION keep_audit_log()",
        "DROP TRIGGER keep_audit_log ON audit_log",
    ),
    (
        "CREATE TRIGGER keep_whole_audit_log BEFORE TRUNCATE ON audit_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION keep_audit_log()",
        "DROP TRIGGER keep_whole_audit_log ON audit_log",
    ),
    (
        "CREATE INDEX audit_log_by_member ON audit_log (member, id) WHERE member IS NOT NULL",  # the export of a user
        "DROP INDEX audit_log_by_member",
    ),
    (
        "CREATE INDEX audit_log_by_time ON audit_log USING brin (created_at)",  # retention
        "DROP INDEX audit_log_by_time",
    ),
    (
        "CREATE INDEX audit_log_refused_operators ON audit_log (address, created_at)"  # the back-off of the admin site
        " WHERE kind = 'operator' AND action = 'refuse_password'",
        "DROP INDEX audit_log_refused_operators",
    ),
]

# A row's version rises with everything that its representation shows, so that no bytes change under an ETag.
VERSIONS = [
    # A purged original: the foreign key sets forked_from to NULL. A version of a character needs its revision.
    (
        "CREATE FUNCTION raise_version() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.version := OLD.version + 1;"
        " NEW.updated_at := now();"
        " IF TG_TABLE_NAME = 'characters' THEN"
        "  NEW.written_in := pg_current_xact_id()::text::bigint;"  # as number_transaction does where no trigger writes
        "  INSERT INTO revisions (id, character, number, replaced, created_at)"
        "  VALUES (gen_random_uuid(), NEW.id, NEW.version, '{}', now());"
        " END IF;"
        " RETURN NEW;"
        " END $$",
        "DROP FUNCTION raise_version()",
    ),
    *(
        (
            f"CREATE TRIGGER raise_version_without_original BEFORE UPDATE OF forked_from ON {table} FOR EACH ROW"
            " WHEN (OLD.forked_from IS DISTINCT FROM NEW.forked_from AND OLD.version = NEW.version)"
            " EXECUTE FUNCTION raise_version()",
            f"DROP TRIGGER raise_version_without_original ON {table}",
        )
        for table in ("characters", "templates")
    ),
    # A relationship shows the names of its ends. Rows are locked in one order, so that two renames do not deadlock.
    (
        "CREATE FUNCTION raise_versions_of_relationships() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE relationships SET version = version + 1, updated_at = now() WHERE id IN ("
        "  SELECT id FROM relationships WHERE source = NEW.id OR target = NEW.id ORDER BY id FOR UPDATE);"
        " RETURN NULL;"
        " END $$",
        "DROP FUNCTION raise_versions_of_relationships()",
    ),
    (
        "CREATE TRIGGER raise_versions_of_relationships AFTER UPDATE OF name ON characters FOR EACH ROW"
        " WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION raise_versions_of_relationships()",
        "DROP TRIGGER raise_versions_of_relationships ON characters",
    ),
]

# The usage of each user. Triggers keep it, so that it is exact for every way to write. The limits are settings of the
# connection: only the API sets them. Limits are checked where usage grows, while the user's row is locked.
USAGE = [
    (
        'CREATE TABLE user_usage ("user" uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE ON UPDATE RESTRICT,'
        " characters bigint NOT NULL, stored_bytes bigint NOT NULL) WITH (fillfactor = 50)",
        "DROP TABLE user_usage",
    ),
    (
        "CREATE FUNCTION add_usage(member uuid, more_characters bigint, more_bytes bigint) RETURNS void"
        " LANGUAGE plpgsql AS $$ DECLARE used user_usage; BEGIN"
        " UPDATE user_usage SET characters = characters + more_characters, stored_bytes = stored_bytes + more_bytes"
        '  WHERE "user" = member RETURNING * INTO used;'
        " IF NOT FOUND AND more_characters >= 0 THEN"  # a user who is being purged has no row
        '  INSERT INTO user_usage AS old ("user", characters, stored_bytes)'
        '   VALUES (member, more_characters, more_bytes) ON CONFLICT ("user") DO UPDATE SET'
        "   characters = old.characters + excluded.characters, stored_bytes = old.stored_bytes + excluded.stored_bytes"
        "   RETURNING * INTO used;"
        " END IF;"
        " IF more_characters > 0 AND"
        "  used.characters > nullif(current_setting('service.quota_characters', true), '')::bigint THEN"
        "  RAISE EXCEPTION 'Too many characters.' USING ERRCODE = 'check_violation', CONSTRAINT = 'quota_characters';"
        " END IF;"
        " IF more_bytes > 0 AND"
        "  used.stored_bytes > nullif(current_setting('service.quota_stored_bytes', true), '')::bigint THEN"
        "  RAISE EXCEPTION 'Too many bytes.' USING ERRCODE = 'check_violation', CONSTRAINT = 'quota_stored_bytes';"
        " END IF;"
        " END $$",
        "DROP FUNCTION add_usage(uuid, bigint, bigint)",
    ),
    (
        "CREATE FUNCTION size_of_file(of text) RETURNS bigint LANGUAGE sql STABLE"
        " RETURN coalesce((SELECT size FROM files WHERE name = of), 0)",
        "DROP FUNCTION size_of_file(text)",
    ),
    (  # for each row: for each statement, with a transition table, takes twice as long
        "CREATE FUNCTION use_character() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM add_usage(NEW.owner, 1, CASE WHEN NEW.portrait IS NULL THEN 0 ELSE size_of_file(NEW.portrait) END);"
        " RETURN NULL;"
        " END $$",
        "DROP FUNCTION use_character()",
    ),
    (
        "CREATE TRIGGER use_character AFTER INSERT ON characters FOR EACH ROW WHEN (NOT NEW.ended)"
        " EXECUTE FUNCTION use_character()",
        "DROP TRIGGER use_character ON characters",
    ),
    (  # before: its card and its revisions are deleted with it
        "CREATE FUNCTION free_character() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        # Its copies, which lose their original, first: requests lock characters before the usage of their owner
        " PERFORM FROM characters WHERE forked_from = OLD.id ORDER BY id FOR NO KEY UPDATE;"
        " PERFORM add_usage(OLD.owner, -1, -sum(bytes)::bigint) FROM ("
        "  SELECT size_of_file(OLD.portrait) AS bytes"
        "  UNION ALL SELECT size_of_file(replaced ->> 'portrait') FROM revisions"
        "   WHERE character = OLD.id AND replaced ->> 'portrait' IS NOT NULL"
        "  UNION ALL SELECT octet_length(data::text) FROM cards WHERE character = OLD.id"
        "  UNION ALL SELECT size_of_file(card_assets.file) FROM card_assets JOIN cards ON cards.id = card"
        "   WHERE cards.character = OLD.id) AS stored;"
        " RETURN OLD;"
        " END $$",
        "DROP FUNCTION free_character()",
    ),
    (
        "CREATE TRIGGER free_character BEFORE DELETE ON characters FOR EACH ROW WHEN (NOT OLD.ended)"
        " EXECUTE FUNCTION free_character()",
        "DROP TRIGGER free_character ON characters",
    ),
    (
        "CREATE FUNCTION use_bytes() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE of uuid; more bigint; BEGIN"
        " CASE TG_TABLE_NAME"
        "  WHEN 'characters' THEN"
        # The old portrait is not freed, because the revision keeps it: only the new one is checked
        "   PERFORM add_usage(NEW.owner, 0, size_of_file(NEW.portrait));"
        "   PERFORM add_usage(NEW.owner, 0, -size_of_file(OLD.portrait));"
        "   RETURN NULL;"
        "  WHEN 'revisions' THEN"
        "   UPDATE user_usage SET stored_bytes = stored_bytes + size_of_file(NEW.replaced ->> 'portrait')"
        '    WHERE "user" = (SELECT owner FROM characters WHERE id = NEW.character);'
        "   RETURN NULL;"
        "  WHEN 'cards' THEN"
        "   of := NEW.character; more := octet_length(NEW.data::text);"
        "   IF TG_OP = 'UPDATE' THEN more := more - octet_length(OLD.data::text); END IF;"
        "  ELSE"
        "   SELECT character INTO of FROM cards WHERE id = NEW.card; more := size_of_file(NEW.file);"
        " END CASE;"
        " PERFORM add_usage(owner, 0, more) FROM characters WHERE id = of;"
        " RETURN NULL;"
        " END $$",
        "DROP FUNCTION use_bytes()",
    ),
    *(
        (
            f"CREATE TRIGGER use_bytes AFTER {when} EXECUTE FUNCTION use_bytes()",
            f"DROP TRIGGER use_bytes ON {table}",
        )
        for table, when in {
            "characters": "UPDATE OF portrait ON characters FOR EACH ROW"
            " WHEN (OLD.portrait IS DISTINCT FROM NEW.portrait)",
            "revisions": "INSERT ON revisions FOR EACH ROW WHEN (NEW.replaced ->> 'portrait' IS NOT NULL)",
            "cards": "INSERT OR UPDATE OF data ON cards FOR EACH ROW",
            "card_assets": "INSERT ON card_assets FOR EACH ROW",
        }.items()
    ),
]

STEPS = [
    *PINNED_VERSION, *RELATIONSHIPS, *CHANGES, *INACTIVE_OWNERS, *SEARCH, *FILTERS, *LISTS, *FILES, *AUDIT_LOG, *VERSIONS,
    *USAGE,
]  # fmt: skip


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="service", description=DESCRIPTION)
    add_statements(manager, STEPS)
    return manager
