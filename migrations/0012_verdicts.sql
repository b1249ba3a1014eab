-- Verdicts with early dates wait to be believed, as absences do; and whose date is whose.

-- A verdict that the last answers show in place of what is believed: its status, reason and create date; since when; when
-- something else was last seen; looks that counted, and the last of them; when it will be believed, if it stays.
alter table observation add column pending_status text;
alter table observation add column pending_reason text;
alter table observation add column pending_created_at integer;
alter table observation add column pending_since integer;
alter table observation add column pending_after integer;
alter table observation add column pending_looks integer not null default 0;
alter table observation add column pending_looked_at integer;
alter table observation add column pending_until integer;

-- When the review was first seen.
alter table observation add column attempt_seen_at integer;
update observation set attempt_seen_at = status_since where attempt > 0;

-- When the last verdict told was seen, and the create date of its attempt.
alter table observation add column told_at integer;
alter table observation add column told_attempt_created_at integer;
update observation
set told_at = status_since,
    told_attempt_created_at = case when told_attempt = attempt then attempt_created_at else told_created_at end
where told_verdict is not null;

create index observation_pending on observation (pending_since) where pending_since is not null;
