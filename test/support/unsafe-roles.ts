/** What makes a tenant's database roles unsafe, and the resulting messages. */

export interface Names {
  /** The tenant's names, quoted for SQL. */
  readonly role: string;
  readonly schema: string;
  readonly foreign: { readonly role: string; readonly schema: string };
  /** The role that the host connects as. */
  readonly host: string;
}

export interface UnsafeCase {
  readonly name: string;
  readonly make: (its: Names) => string;
  readonly undo: (its: Names) => string;
  /** The tenant's finding; unset if nothing is wrong with it alone. */
  readonly says?: RegExp;
  /** The database's finding, which affects every tenant. */
  readonly all?: RegExp;
}

export const unsafeCases: readonly UnsafeCase[] = [
  {
    name: "is a superuser",
    make: (its) => `alter role ${its.role} superuser`,
    undo: (its) => `alter role ${its.role} nosuperuser`,
    says: /^role \S+ is a superuser/,
    all: /^the connecting role \S+ is a member of \S+, a superuser: a function of any tenant could switch to it$/,
  },
  {
    name: "bypasses all policies",
    make: (its) => `alter role ${its.role} bypassrls`,
    undo: (its) => `alter role ${its.role} nobypassrls`,
    says: /^role \S+ has BYPASSRLS/,
  },
  {
    name: "may become a role that bypasses all policies",
    make: (its) => `create role canary_ada_helper bypassrls; grant canary_ada_helper to ${its.role}`,
    undo: () => "drop role canary_ada_helper",
    says: /^role \S+ \(through canary_ada_helper\) has BYPASSRLS/,
  },
  {
    name: "may become pg_read_all_data",
    make: (its) => `grant pg_read_all_data to ${its.role} with inherit false, set true`,
    undo: (its) => `revoke pg_read_all_data from ${its.role}`,
    says: /^role \S+ may become pg_read_all_data, /,
  },
  {
    name: "owns one of the tenant's tables",
    make: (its) => `alter table ${its.schema}.part owner to ${its.role}`,
    undo: (its) => `alter table ${its.schema}.part owner to current_user`,
    says: /^role \S+ owns 1 of the tenant's tables/,
  },
  {
    name: "owns one of the tenant's tables, even under forced row-level security",
    make: (its) =>
      `create table ${its.schema}.forced (id int); alter table ${its.schema}.forced owner to ${its.role}, enable row level security, force row level security`,
    undo: (its) => `drop table ${its.schema}.forced`,
    says: /^role \S+ owns 1 of the tenant's views, functions or tables: it could place arbitrary SQL there$/,
  },
  {
    name: "owns a view, a function and a domain of the tenant",
    make: (
      its,
    ) => `create view ${its.schema}.shown as select 1 as one; alter view ${its.schema}.shown owner to ${its.role};
      create function ${its.schema}.done() returns int return 1; alter function ${its.schema}.done owner to ${its.role};
      create domain ${its.schema}.odd as text; alter domain ${its.schema}.odd owner to ${its.role}`,
    undo: (its) =>
      `drop view ${its.schema}.shown; drop function ${its.schema}.done; drop domain ${its.schema}.odd`,
    says: /^role \S+ owns 3 of the tenant's views, functions or tables: it could place arbitrary SQL there$/,
  },
  {
    name: "may create in the tenant's schema",
    make: (its) => `grant create on schema ${its.schema} to ${its.role}`,
    undo: (its) => `revoke create on schema ${its.schema} from ${its.role}`,
    says: /^role \S+ may create objects in the tenant's schema canary_ada: it could place arbitrary SQL there$/,
  },
  {
    name: "owns the tenant's schema",
    make: (its) =>
      `alter schema ${its.schema} owner to ${its.role}; revoke create on schema ${its.schema} from ${its.role}`,
    // Changing the owner removes the old owner's rights, so USAGE is granted again.
    undo: (its) =>
      `alter schema ${its.schema} owner to current_user; grant usage on schema ${its.schema} to ${its.role}`,
    says: /^role \S+ may create objects in the tenant's schema canary_ada: it could place arbitrary SQL there$/,
  },
  {
    name: "may create in the tenant's schema because everyone may",
    make: (its) => `grant create on schema ${its.schema} to public`,
    undo: (its) => `revoke create on schema ${its.schema} from public`,
    says: /^everyone may create objects in the schema canary_ada \(CREATE granted to PUBLIC\)$/,
  },
  {
    name: "may read a view that changes the role and runs a query from a string",
    make: (its) =>
      `create view ${its.schema}.leak as select set_config('role', 'x', true), query_to_xml('select 1', true, true, '')`,
    undo: (its) => `drop view ${its.schema}.leak`,
    says: /^view canary_ada\.leak could reach beyond its tenant through query_to_xml, set_config$/,
  },
  {
    name: "shares a schema with a function that runs dynamic SQL",
    make: () => "create function public.run(t text) returns void language plpgsql as 'begin execute t; end'",
    undo: () => "drop function public.run",
    all: /^function public\.run could reach beyond its tenant through execute$/,
  },
  {
    name: "may create in a shared schema",
    make: (its) => `grant create on schema public to ${its.role}`,
    undo: (its) => `revoke create on schema public from ${its.role}`,
    says: /^role \S+ may create objects in the shared schema public$/,
  },
  {
    name: "may create in a shared schema because everyone may",
    make: () => "grant create on schema public to public",
    undo: () => "revoke create on schema public from public",
    all: /^everyone may create objects in the shared schema public: revoke create on it from public$/,
  },
  {
    name: "may use another tenant's schema",
    make: (its) => `grant usage on schema ${its.foreign.schema} to ${its.role}`,
    undo: (its) => `revoke usage on schema ${its.foreign.schema} from ${its.role}`,
    says: /^its roles may use the schema canary_bob of tenant bob$/,
  },
  {
    name: "may become a role that may use another tenant's schema",
    make: (its) => `grant ${its.foreign.role} to ${its.role} with inherit false, set true`,
    undo: (its) => `revoke ${its.foreign.role} from ${its.role}`,
    says: /^its roles may use the schema canary_bob of tenant bob$/,
  },
  {
    name: "has a schema that everyone may use",
    make: (its) => `grant usage on schema ${its.schema} to public`,
    undo: (its) => `revoke usage on schema ${its.schema} from public`,
    says: /^everyone may use the schema canary_ada/,
  },
  {
    name: "may call a SECURITY DEFINER function without a search_path",
    make: (its) =>
      `create function ${its.schema}.misled() returns int language plpgsql stable security definer as 'begin return 1; end'`,
    undo: (its) => `drop function ${its.schema}.misled()`,
    says: /^function canary_ada\.misled\(\) is SECURITY DEFINER without a search_path/,
  },

  {
    name: "may read the table of all tenants",
    make: (its) =>
      `grant usage on schema rowhouse to ${its.role}; grant select on rowhouse.tenant to ${its.role}`,
    undo: (its) =>
      `revoke select on rowhouse.tenant from ${its.role}; revoke usage on schema rowhouse from ${its.role}`,
    says: /^role \S+ may read rowhouse\.tenant, which holds the secrets of all tenants$/,
  },
  {
    name: "may become a role that may read one column of the table of all tenants",
    make: (its) => `create role canary_ada_helper; grant canary_ada_helper to ${its.role} with inherit false;
      grant usage on schema rowhouse to canary_ada_helper; grant select (jwt) on rowhouse.tenant to canary_ada_helper`,
    undo: (its) =>
      `revoke canary_ada_helper from ${its.role}; drop owned by canary_ada_helper; drop role canary_ada_helper`,
    says: /^role \S+ \(through canary_ada_helper\) may read rowhouse\.tenant, /,
  },
  {
    name: "may write the revisions",
    make: (
      its,
    ) => `grant usage on schema rowhouse to ${its.role}; grant update on rowhouse.schema_revision to ${its.role};
      grant insert (host) on rowhouse.tenant_host to ${its.role}`,
    undo: (
      its,
    ) => `revoke update on rowhouse.schema_revision from ${its.role}; revoke usage on schema rowhouse from ${its.role};
      revoke insert (host) on rowhouse.tenant_host from ${its.role}`,
    says: /^role \S+ may write control tables shared by all tenants: rowhouse\.schema_revision, rowhouse\.tenant_host$/,
  },
  {
    name: "has tables that the connecting role owns",
    make: (its) => `alter table ${its.schema}.part owner to ${its.host}`,
    undo: (its) => `alter table ${its.schema}.part owner to current_user`,
    says: /^the connecting role \S+ owns 1 of the tenant's tables/,
  },
  {
    name: "is assumed by a connecting role that may become a superuser",
    make: (
      its,
    ) => `create role canary_might superuser; create role canary_middle; grant canary_might to canary_middle;
      grant canary_middle to ${its.host} with inherit false`,
    undo: () => "drop role canary_middle; drop role canary_might",
    all: /^the connecting role \S+ is a member of canary_might, a superuser: /,
  },
  {
    name: "is assumed by a connecting role that may bypass all policies",
    make: (its) => `create role canary_might bypassrls; grant canary_might to ${its.host} with inherit false`,
    undo: () => "drop role canary_might",
    all: /^the connecting role \S+ is a member of canary_might, which has BYPASSRLS: /,
  },
  {
    name: "is assumed by a connecting role that may become pg_write_all_data",
    make: (its) => `grant pg_write_all_data to ${its.host} with inherit false`,
    undo: (its) => `revoke pg_write_all_data from ${its.host}`,
    all: /^the connecting role \S+ is a member of pg_write_all_data: /,
  },
  {
    name: "shares a schema in which the connecting role may create",
    make: (its) => `grant create on schema public to ${its.host}`,
    undo: (its) => `revoke create on schema public from ${its.host}`,
    all: /^the connecting role \S+ may create objects in the shared schema public$/,
  },
  {
    name: "shares a schema with a SECURITY DEFINER function without a search_path",
    make: () =>
      "create function public.misled() returns int language plpgsql security definer as 'begin return 1; end'",
    undo: () => "drop function public.misled()",
    all: /^function public\.misled\(\) is SECURITY DEFINER without a search_path of its own: set one, because tenants share its schema$/,
  },
];
