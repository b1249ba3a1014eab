-- Partner Center's activity log: who submitted something, who became a customer.

-- Operations before this instant were read; the next look begins a little earlier (operations appear late).
alter table partner add column activity_log_cursor integer;
-- The last look that came to its end; the next one is due from here. And the last one that stopped nowhere before.
alter table partner add column activity_log_read_at integer;
alter table partner add column activity_log_full_at integer;
-- That one was long enough to show that the newest operations come first: a look may stop at what was seen.
alter table partner add column activity_log_newest_first integer not null default 0 check (activity_log_newest_first in (0, 1));
-- It cannot be read since; not before this time again, how many times in a row, and why.
alter table partner add column activity_log_failing_since integer;
alter table partner add column activity_log_retry_at integer;
alter table partner add column activity_log_failures integer not null default 0;
alter table partner add column activity_log_error text;
-- It was refused (there is none in this cloud, or no right to it): that is not waited for.
alter table partner add column activity_log_refused integer not null default 0 check (activity_log_refused in (0, 1));
-- The log tells of submissions, so customers without a qualification are asked at the `unqualified` interval.
alter table partner add column activity_log_counts integer not null default 0 check (activity_log_counts in (0, 1));

-- Operations of the days that are still read again, each as a digest. Only kept where a look may stop at them.
create table activity_seen (
    partner integer not null references partner (id),
    operation integer not null,
    day integer not null,
    primary key (partner, operation)
) strict, without rowid;
create index activity_seen_day on activity_seen (partner, day);

-- The last submission that the activity log tells of.
alter table customer add column submitted_at integer;
