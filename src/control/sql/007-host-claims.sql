-- Two spellings of one host are one host, and PostgreSQL cannot tell: the host compares them. It needs to know which was claimed
-- first, and to find those that are not in the spelling that a Host header is brought to.

alter table rowhouse.tenant_host add column claimed_at timestamptz;
-- Nobody knows when the hosts that are there were claimed. Not now(), which whoever opens a transaction early has early.
alter table rowhouse.tenant_host alter column claimed_at set default clock_timestamp();

-- The others: in another script, or with a last label that begins with a digit, which may be a number in an IPv4 address.
create index tenant_host_spelled on rowhouse.tenant_host (host)
  where host collate "C" !~ '^([a-z0-9_-]+\.)*[a-z_-][a-z0-9_-]*$';
