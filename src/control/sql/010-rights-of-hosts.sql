-- EXECUTE for PUBLIC is PostgreSQL's default for new functions, which hardened databases revoke (ALTER DEFAULT PRIVILEGES). Hosts
-- and migrating roles that are there already are given by name what they call, as `rowhouse install --grant` gives it to others.
do $$
declare
  known regrole;
begin
  for known in
    select distinct a.grantee::regrole from pg_namespace n cross join aclexplode(n.nspacl) a
    where n.nspname = 'rowhouse' and a.privilege_type = 'USAGE' and a.grantee not in (0, n.nspowner)
  loop
    execute format(
      'grant execute on function rowhouse.assert_revisions, rowhouse.begin_write, rowhouse.await_migration, rowhouse.lock_holders to %s',
      known
    );
  end loop;
  for known in
    select distinct a.grantee::regrole from pg_class c cross join aclexplode(c.relacl) a
    where c.oid = 'rowhouse.applied'::regclass and a.privilege_type = 'INSERT' and a.grantee not in (0, c.relowner)
  loop
    execute format('grant execute on function rowhouse.run_migration to %s', known);
  end loop;
end
$$;
