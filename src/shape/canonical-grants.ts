/** Lines of the canonical text for what any object can have: a comment, membership in an extension, privileges. */

import { namingTag } from "../shared/postgres/schema-tags.ts";
import { roleLabel } from "./labels.ts";
import { type Lines, without } from "./lines.ts";

/**
 * A comment verbatim (smart tags are parsed from it), and which served schemas its tags name physically: the
 * effect of such a comment on the API is specific to this tenant.
 */
const comments: Lines = {
  place: "o.label",
  line: [
    "'comment'",
    "o.kind",
    "o.label",
    "o.name",
    "a.attname",
    "d.description",
    `(select pg_catalog.json_agg(n.ord order by n.ord) from own_name n where ${namingTag("d.description", "n")} is not null)`,
  ],
  from: `from described d join object o on o.oid = d.oid and o.class = d.class
    left join spelled_attribute a on o.kind = 'relation' and a.attrelid = d.oid and a.attnum = d.sub`,
};

/** PostGraphile parses no comments of schemas and indexes, and those of checks and exclusions go with them. */
const coreComments: Lines = {
  ...without(comments),
  from: `${comments.from}
    left join own_constraint k on o.kind = 'constraint' and k.oid = d.oid
    where case o.kind
      when 'constraint' then k.contype in ('p', 'u', 'f')
      when 'type' then o.oid not in (select oid from unused_type)
      else o.kind in ('relation', 'function')
    end`,
};

const extensions: Lines = {
  place: "o.label",
  line: ["'extension'", "o.kind", "o.label", "o.name", "m.extname"],
  from: "from extension_member m join object o on o.oid = m.objid and o.class = m.classid",
};

/** Types, functions and columns are listed only if something was granted or revoked on them. */
const grants: Lines = {
  place: "g.label",
  line: ["'grants'", "g.kind", "g.label", "g.name", "r.entries", "r.privileges"],
  from: "from granted g join resolved r on r.acl = g.acl and r.owner = g.owner and r.own = g.own",
};

/**
 * PgRBACPlugin asks what the connecting role may do with relations and columns, and whether it may execute functions. A column's privileges
 * add to its table's.
 */
const coreGrants: Lines = {
  ...without(grants, "r.entries", "r.privileges"),
  line: ["'grants'", "g.kind", "g.label", "g.name", "p.privileges"],
  from: `${grants.from}
    cross join lateral (
      select case when r.all_of_it and g.kind <> 'column' then 'DELETE INSERT SELECT UPDATE' else r.held end
    ) p(privileges)
    where case g.kind
      when 'relation' then true
      when 'column' then p.privileges is not null
      when 'function' then p.privileges is null
      else false
    end`,
};

export const grantLines: readonly Lines[] = [
  { ...comments, in: "full" },
  coreComments,
  extensions,
  { ...grants, in: "full" },
  coreGrants,
];

/** SQL, after `labelCtes`: `named(object, tag)`, comments with a tag that names a served schema physically. */
export const namedCtes = `\
named(object, tag) as materialized (
  select o.kind || ' ' || o.label || case when a.attname is null then coalesce(' ' || o.name, '')
    else '.' || pg_catalog.quote_ident(a.attname) end, tagged.tag
  from described d join object o on o.oid = d.oid and o.class = d.class
  left join spelled_attribute a on o.kind = 'relation' and a.attrelid = d.oid and a.attnum = d.sub
  cross join own_name n
  cross join lateral (select ${namingTag("d.description", "n")} as tag) tagged
  where tagged.tag is not null
)`;

/**
 * SQL, after `labelCtes`: `granted` and `resolved`. An object's grants, and the privileges that result for
 * the connecting role: resolved like `entityPermissions` of pg-introspection for PgRBACPlugin, through all
 * memberships, with the owner's privileges only if its entry was not revoked. For shared objects (`own` is
 * false) only the tenant's roles are listed: the others are mostly other tenants'. Objects with equal grants
 * are resolved once: most tables of a tenant have the same, and each takes 20 µs.
 */
export const grantCtes = `\
granted(kind, label, name, own, owner, acl) as materialized (
  select 'schema', label, null::text, own, nspowner, coalesce(nspacl, pg_catalog.acldefault('n', nspowner)) from spelled_namespace
  where oid <> 'pg_catalog'::regnamespace
  union all
  select 'relation', label, null, own, relowner, coalesce(relacl, pg_catalog.acldefault('r', relowner)) from spelled_class
  union all
  select 'column', s.label, a.attname, s.own, s.relowner, a.attacl
  from (select * from spelled_attribute where attacl is not null and not attisdropped) a
  join spelled_class s on s.oid = a.attrelid
  union all
  select 'type', label, null, own, typowner, typacl from spelled_type
  where typacl is not null and typnamespace <> 'pg_catalog'::regnamespace
  union all
  select 'function', label, arguments, own, proowner, proacl from spelled_proc where proacl is not null
),
resolved as materialized (
  select g.own, g.owner, g.acl, x.entries, x.held, a.all_of_it,
    case when a.all_of_it then 'ALL' else x.named end as privileges
  from (select distinct own, owner, acl from granted) g
  cross join actor
  cross join lateral (
    select
      pg_catalog.string_agg(e.entry, ' ' order by e.entry collate "C") filter (
        where g.own or e.grantee in (0, actor.anonymous, actor.authenticated, actor.self) or e.grantee = any (actor.others)
      ) as entries,
      coalesce(pg_catalog.bool_or(e.grantee = g.owner), false) as explicit,
      pg_catalog.string_agg(distinct e.privilege, ' ' order by e.privilege) filter (
        where case when e.grantee = 0 then true else pg_catalog.pg_has_role(e.grantee, 'MEMBER') end
      ) as named,
      -- As pg-introspection sees it, which does not know of the one membership that is listed nowhere.
      pg_catalog.string_agg(distinct e.privilege, ' ' order by e.privilege) filter (
        where e.privilege in ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'EXECUTE')
        and case when e.grantee = 0 then true
          else e.grantee <> 'pg_database_owner'::regrole and pg_catalog.pg_has_role(e.grantee, 'MEMBER') end
      ) as held
    from (
      select a.grantee, a.privilege_type collate "C" as privilege,
        pg_catalog.quote_ident(${roleLabel("a.grantee", "g.owner")}) || ':' || a.privilege_type
          || case when a.is_grantable then '*' else '' end as entry
      from pg_catalog.aclexplode(g.acl) a
    ) e
  ) x
  cross join lateral (select actor.superuser or (g.owner = actor.self and not x.explicit)) a(all_of_it)
)`;
