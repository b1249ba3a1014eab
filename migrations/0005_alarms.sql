-- What operators were told of trouble, so that they are told once, and once more when it is over.

-- The first question without a good answer since the last good one, and what the last one said.
alter table partner add column failing_since integer;
alter table partner add column last_failed_at integer;
alter table partner add column last_failure text;
-- The operators know that the partner cannot be read, since when it cannot, and when it last could again.
alter table partner add column blind_since integer;
alter table partner add column recovered_at integer;
-- Customers that cannot be read (can be again) and of whom nobody was told yet: since when there are any.
alter table partner add column unreadable_at integer;
alter table partner add column readable_at integer;

-- Requests a minute since Microsoft throttled us, until it is what was configured again.
alter table partner add column slowed_to integer;

-- The operators know that this customer cannot be read.
alter table customer add column blind_told_at integer;
create index customer_blind on customer (partner) where blind_since is not null or blind_told_at is not null;

-- The operators know that the endpoint delivers nothing; dead letters up to then were told.
alter table endpoint add column failing_told_at integer;
alter table endpoint add column dead_told_at integer;
-- Those of before this version are nobody's news.
update endpoint set dead_told_at = (select max(finished_at) from delivery d where d.endpoint = endpoint.name and d.state = 'dead');
