-- Giving up counts the time in which vetwatch ran, and what waits for nobody is told.

-- Operators were told that this message was given up, or that it waits without an end in sight.
alter table delivery add column operators_told_at integer;
update delivery set operators_told_at = finished_at
where state = 'dead' and finished_at <= (select e.dead_told_at from endpoint e where e.name = delivery.endpoint);
-- Its events were sent to another endpoint instead (`redrive --to`). Its state is `dead`, and it is nobody's trouble.
alter table delivery add column redirected_at integer;
-- Quiet hours hold nothing for longer than two weeks; counted from here, or else from when it was made.
alter table delivery add column held_since integer;
-- `endpoint.dead_told_at` is from now on when the operators were last told of messages to this endpoint.

-- The endpoint is not in the configuration, and since when that is known: nobody sends what waits for it.
alter table endpoint add column gone_at integer;

-- When the clock was last seen to be set by more than a minute.
alter table daemon add column clock_set_at integer;

-- What was given up and nobody was told of.
create index delivery_untold on delivery (endpoint) where state = 'dead' and operators_told_at is null;
-- The newest that an endpoint has taken.
create index delivery_taken on delivery (endpoint) where state = 'delivered';
