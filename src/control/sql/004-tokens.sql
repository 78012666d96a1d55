-- How a tenant's tokens are told from anybody else's. A secret in there is as safe as this table: let nobody but the host read it.

alter table rowhouse.tenant
  add column jwt jsonb check (jsonb_typeof(jwt) = 'object'),
  add column session jsonb check (jsonb_typeof(session) = 'object');
