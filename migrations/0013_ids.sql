-- Ids that follow from what they name, and rows that cannot be read.

-- A message's id is over all of its events: while it gathers them the id changes, and what refers to it goes along. It
-- is fixed when the first attempt begins: an attempt refers to it, and does not go along. The order is the sequence's.
create table delivery_event_kept (delivery text not null, endpoint text not null, event text not null, why text) strict;
insert into delivery_event_kept select delivery, endpoint, event, why from delivery_event;
drop table delivery_event;
create table delivery_event (
    delivery text not null,
    endpoint text not null,
    event text not null references event (id),
    -- Why the endpoint is told: `route north`, `operators`, `fallback of crm`, `test-send`.
    why text,
    foreign key (delivery, endpoint) references delivery (id, endpoint) on update cascade,
    primary key (event, endpoint) -- one delivery of an event to an endpoint
) strict, without rowid;
insert into delivery_event select delivery, endpoint, event, why from delivery_event_kept;
drop table delivery_event_kept;
create index delivery_event_delivery on delivery_event (delivery);

-- The ids that a message had while it gathered: whoever noted one finds the message by it.
create table delivery_former_id (
    id text primary key,
    -- The message's sequence.
    delivery integer not null references delivery (sequence)
) strict, without rowid;

-- What is stored of it cannot be read, as `last_error` says: since when, and when the operators were told. It waits.
alter table delivery add column unreadable_since integer;
alter table delivery add column unreadable_told_at integer;
create index delivery_unreadable on delivery (endpoint) where unreadable_since is not null;
