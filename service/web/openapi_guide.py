"""The guide that stands before the operations, as Markdown."""

GUIDE = """\
An API for characters, their templates and the relationships between them.

**Start.** Sign up with [create_user](#/Users/create_user) and sign in with
[create_session](#/Sessions/create_session). The response has a `token`. On this page, click *Authorize* and paste it:
the tab keeps it until you close it or log out. A program sends it as `Authorization: Bearer <token>`. Programs without
a person who signs in use an [API key](#/API%20keys/create_api_key).

**The domain.** A [template](#/Templates/create_template) has a JSON Schema for attributes, and a prompt that uses them.
A [character](#/Characters/create_character) can use a template: missing attributes get the defaults of its schema. A
character is `private`, `unlisted` or `public`. It has [relationships](#/Relationships/create_relationship), a
[portrait](#/Characters/update_portrait), and [revisions](#/Revisions/list_revisions) that can be restored.
The [guide](/docs/guide) explains the rules, and has a [table of the files that can be
imported](/docs/guide#cards).

**Reading.** The [API page](/docs/api) has the rules that hold for every operation. Lists come in pages: repeat the
request with `cursor` set to `next_cursor`. `fields` chooses members, and `expand` replaces the reference to an owner or
a template by its data.

**Writing.** `PATCH` changes only the members that are sent. Responses have an `ETag`: send it as `If-Match`, and a
request that would overwrite a newer version is refused (412). A request with an `Idempotency-Key` can be repeated
safely. `?dry_run=true` previews the result and stores nothing.

**Errors.** Every error is a [problem document](/problems/) (RFC 9457). Its `errors` list the faults of the request,
each with its position. In the list of responses, `default` stands for the problems that any operation can return.
"""
