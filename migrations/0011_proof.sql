-- Reminders of long reviews, customers of whom nobody is to be told, and test messages.

-- The review that the reminders below are of, and up to when those that became due are told (or were due already when
-- the customer was first seen). A new review has another attempt number, and begins without any.
alter table observation add column overdue_attempt integer;
alter table observation add column overdue_until integer;
-- What became due before this version is nobody's news. (One that is told covers those of the next twelve hours.)
update observation set overdue_attempt = attempt, overdue_until = (unixepoch() - 43200) * 1000 where present = 1;

-- Nobody is told anything about this customer since, and until when; null: until somebody wants it again.
alter table customer add column muted_at integer;
alter table customer add column muted_until integer;

-- It was told to nobody, because its customer was muted.
alter table event add column muted integer not null default 0 check (muted in (0, 1));
-- Somebody asked for it with `test-send`: it says nothing of any customer.
alter table event add column test integer not null default 0 check (test in (0, 1));
create index event_test on event (id) where test = 1;

drop view v_customers;
create view v_customers as
select p.name as partner,
       c.customer_id,
       c.name,
       c.domain,
       coalesce((select group_concat(value, ',') from json_each(c.tags)), '') as tags,
       c.contact,
       c.paused_at is not null as paused,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.last_seen_at / 1000.0, 'unixepoch') as last_seen_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', case when c.paused_at is null then c.next_poll_at end / 1000.0, 'unixepoch') as next_poll_at,
       c.poll_failures,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.blind_since / 1000.0, 'unixepoch') as blind_since,
       c.last_error,
       c.poll_class,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.added_at / 1000.0, 'unixepoch') as added_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.left_since / 1000.0, 'unixepoch') as left_since,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.muted_at / 1000.0, 'unixepoch') as muted_since,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.muted_until / 1000.0, 'unixepoch') as muted_until
from customer c
join partner p on p.id = c.partner
where c.removed_at is null;
