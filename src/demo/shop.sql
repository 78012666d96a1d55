-- One tenant's shop. :words are identifiers, put in by seed.ts. Functions are of the SQL-standard form: their bodies are
-- bound when they are created, so that no caller's search_path can lead them astray.

-- Roles belong to the whole server: another database there may have this shop too.
do $$
declare
  name text;
begin
  foreach name in array array[current_setting('demo.owner'), current_setting('demo.anonymous'), current_setting('demo.user')] loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I nologin', name);
    end if;
  end loop;
end
$$;
-- The host takes these roles per request and inherits nothing of them: what a request may see is PostgreSQL's decision.
grant :anonymous, :user to :host with inherit false, set true;

create schema :schema authorization :owner;
create schema :private authorization :owner;
grant usage on schema :schema to :anonymous, :user;

set local role :owner;
set local search_path = :schema, extensions, pg_temp;

create type order_status as enum ('placed', 'paid', 'shipped', 'delivered');
create domain email as text check (value ~ '^[^@\s]+@[^@\s]+$');
create domain price as numeric(10, 2) check (value >= 0);

create table customers (
  id integer generated always as identity primary key,
  name text not null,
  email email not null unique,
  is_public boolean not null default true
);

create table products (
  id integer generated always as identity primary key,
  name text not null,
  unit_price price not null
);

create table orders (
  id integer generated always as identity primary key,
  customer_id integer not null references customers,
  status order_status not null default 'placed',
  placed_at timestamptz not null default now()
);

create table order_items (
  order_id integer not null references orders,
  product_id integer not null references products,
  quantity integer not null check (quantity > 0),
  unit_price price not null,
  primary key (order_id, product_id)
);

create index on orders (customer_id);
create index on order_items (product_id);

comment on table products is 'What the shop sells.';
comment on column customers.is_public is 'Whether everybody may see this customer and their orders.';

create table :private.account (
  customer_id integer primary key references customers,
  role_name text not null,
  password_hash text not null
);

create function current_customer_id() returns integer language sql stable
  return nullif(current_setting('jwt.claims.customer_id', true), '')::integer;
comment on function current_customer_id() is '@behavior -*';

create function current_customer() returns customers language sql stable
begin atomic
  select c from customers c where c.id = current_customer_id();
end;

create function products_order_count(product products) returns bigint language sql stable security definer
begin atomic
  select count(*) from order_items where product_id = product.id;
end;
comment on function products_order_count(products) is 'How often it was ordered, by whomever.';

create function orders_total(placed orders) returns numeric language sql stable
begin atomic
  select coalesce(sum(i.quantity * i.unit_price), 0) from order_items i where i.order_id = placed.id;
end;

create function place_order(customer_name text, customer_email email, product_id integer, quantity integer default 1)
returns orders language sql volatile security definer
begin atomic
  with customer as (
    insert into customers (name, email) values (customer_name, customer_email)
    on conflict (email) do update set email = excluded.email returning customers.id
  ), placed as (
    insert into orders (customer_id)
    select customer.id from customer, products where products.id = place_order.product_id returning *
  ), line as (
    insert into order_items (order_id, product_id, quantity, unit_price)
    select placed.id, products.id, place_order.quantity, products.unit_price
    from placed, products where products.id = place_order.product_id
  )
  select placed.* from placed;
end;
comment on function place_order(text, email, integer, integer) is 'Orders a product; nothing where there is no such product.';

-- Signed by the host with the tenant's secret: a login returns a token, and its claims come back as jwt.claims.* settings.
create type session as (role text, customer_id integer, exp bigint);
comment on type session is E'@behavior -table jwt\nWho is signed in, as a token.';

create function login(email email, password text) returns session language sql volatile security definer
begin atomic
  select row(a.role_name, c.id, extract(epoch from now() + interval '1 hour'))::session
  from customers c join :private.account a on a.customer_id = c.id
  where c.email = login.email and a.password_hash = crypt(login.password, a.password_hash);
end;
comment on function login(email, text) is 'A token for the customer with this password; nothing for any other.';

revoke all on function place_order, login, products_order_count from public;
grant execute on function place_order, login, products_order_count to :anonymous, :user;
grant select on customers, products, orders, order_items to :anonymous, :user;
grant update (name, is_public) on customers to :user;

alter table customers enable row level security;
alter table orders enable row level security;
alter table order_items enable row level security;
create policy seen on customers for select to :anonymous, :user using (is_public or id = current_customer_id());
create policy own on customers for update to :user using (id = current_customer_id());
create policy seen on orders for select to :anonymous, :user using (customer_id in (select id from customers));
create policy seen on order_items for select to :anonymous, :user using (order_id in (select id from orders));

-- Data of its own: every name says whose it is. Settings carry the values.
insert into customers (name, email, is_public)
select first_name || ' of ' || current_setting('demo.label'), lower(first_name) || '@' || current_setting('demo.id') || '.example',
  first_name <> 'Grace'
from unnest(array['Ada', 'Barbara', 'Edsger', 'Grace', 'Ken']) first_name;

insert into :private.account (customer_id, role_name, password_hash)
select id, current_setting('demo.user'), current_setting('demo.password_hash') from customers;

insert into products (name, unit_price)
select current_setting('demo.label') || ' ' || thing, 5 + abs(hashtext(current_setting('demo.id') || thing)) % 9500 / 100.0
from unnest(array['anvil', 'boots', 'compass', 'dynamo', 'easel', 'flask']) thing;

insert into orders (customer_id, status, placed_at)
select 1 + n % 5, (enum_range(null::order_status))[1 + n % 4], timestamptz '2026-01-01 12:00Z' + n * interval '3 days'
from generate_series(0, 11) n;

insert into order_items (order_id, product_id, quantity, unit_price)
select o.id, p.id, 1 + (o.id + p.id) % 3, p.unit_price
from orders o join products p on (o.id + p.id) % 3 = 0;
