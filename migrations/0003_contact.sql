alter table customer
-- Whom to turn to about this customer, as a person wrote it: a name, an address. Nothing is ever sent there.
add column contact text not null default '';

drop view v_customers;
create view v_customers as
select p.name as partner,
       c.customer_id,
       c.name,
       c.domain,
       (select group_concat(value, ',') from json_each(c.tags)) as tags,
       c.contact,
       c.paused_at is not null as paused,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.last_seen_at / 1000.0, 'unixepoch') as last_seen_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', case when c.paused_at is null then c.next_poll_at end / 1000.0, 'unixepoch') as next_poll_at,
       c.poll_failures,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.blind_since / 1000.0, 'unixepoch') as blind_since,
       c.last_error,
       c.poll_class,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.added_at / 1000.0, 'unixepoch') as added_at
from customer c
join partner p on p.id = c.partner
where c.removed_at is null;
