-- Who is still a customer: complete lists, customers who left, and the first look that is told once.

-- How many customers the last complete list held: the measure for the next one.
alter table partner add column list_size integer;
-- When a list was last read to its end, complete or not: the next one is due by cron from here.
alter table partner add column list_read_at integer;
-- The first of those lists, since the last complete one, that were too short and agree with each other.
alter table partner add column short_since integer;
alter table partner add column short_size integer;
-- The list could not be read: not before this time again, how many times in a row, and why. Polls go on.
alter table partner add column list_retry_at integer;
alter table partner add column list_failures integer not null default 0;
alter table partner add column list_error text;

-- It was in a list once: only such a customer can be missing from one.
alter table customer add column was_listed integer not null default 0 check (was_listed in (0, 1));
-- The first of the complete lists in a row that it is missing from.
alter table customer add column unlisted_since integer;
-- It answers 403/20002 (no relationship) since, without an understood answer in between.
alter table customer add column refused_since integer;
-- It left: asked at the `unqualified` interval from here on, for 90 days.
alter table customer add column left_since integer;
-- `unlisted`: missing from two lists a day apart, whatever it answers. `refused`: until it answers.
alter table customer add column left_why text check (left_why in ('unlisted', 'refused'));
-- When it was looked at whether its leaving is to be told (if it was in review, it was). Kept until it answers again.
alter table customer add column left_noted_at integer;
-- The 90 days are over: paused by vetwatch itself, until it is listed again or a person wants it.
alter table customer add column given_up_at integer;

update customer set was_listed = 1 where source = 'synced';
-- Whoever was watched before this version has no first look any more.
update partner set baseline_told_at = watching_since
where baseline_told_at is null and exists (select 1 from customer c where c.partner = partner.id and c.last_seen_at is not null);

create index customer_left on customer (partner, left_since)
    where left_since is not null and removed_at is null and paused_at is null;
create index customer_left_unnoted on customer (partner)
    where left_since is not null and left_noted_at is null and removed_at is null;

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
       strftime('%Y-%m-%dT%H:%M:%fZ', c.left_since / 1000.0, 'unixepoch') as left_since
from customer c
join partner p on p.id = c.partner
where c.removed_at is null;
