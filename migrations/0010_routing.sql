-- Digests, quiet hours, a customer's contact, and endpoints that stand in for another.

-- The customer's contact, who gets it beside the endpoint's own recipients: a mail address.
alter table delivery add column recipient text;
-- Quiet hours may hold it back: those of the routes as they are when its time has come.
alter table delivery add column may_wait integer not null default 0 check (may_wait in (0, 1));
-- The endpoint that holds what this one tells in its place.
alter table delivery add column instead_of text;
-- Its events were sent to the endpoint's fallback as well.
alter table delivery add column failed_over_at integer;

-- What form the message was written in (`email`, `teams`, ...): an endpoint that is of another kind by now needs another.
alter table delivery add column form text;

-- Why the endpoint is told: `route north`, `operators`, `fallback of crm`, `test-send`.
alter table delivery_event add column why text;

-- What an event of the same group may join.
create index delivery_open on delivery (endpoint, group_key) where state = 'pending' and attempts = 0 and group_key is not null;
