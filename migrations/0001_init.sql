-- The schema. Times are integer milliseconds since 1970 UTC. People read the views at the end; the tables may change.
-- No secret is ever stored: people copy this file.

-- In the file's header: this is a database of vetwatch ("vetw").
pragma application_id = 1986360439;

-- A Partner Center tenant of the configuration.
create table partner (
    id integer primary key,
    name text not null unique,
    -- When vetwatch first started with this partner. A verdict on a review submitted later is news even at first sight.
    watching_since integer not null,
    -- When the first complete customer list was synced. Customers that appear later are new.
    first_synced_at integer,
    last_synced_at integer,
    -- When `monitor.initial_sync` was enqueued.
    initial_sync_reported_at integer,

    -- Backoff: nothing is requested before this time, and why; how many times in a row without a good response.
    backoff_until integer,
    backoff_reason text,
    -- Partner Center asked for it (429): other settings do not end it.
    backoff_is_throttling integer not null default 0,
    backoffs integer not null default 0,
    -- The rate limit in requests a minute after a 429, until it is back at the configured one.
    reduced_rate_limit integer,

    -- The first failed request since the last good response; the last one, and its error.
    failing_since integer,
    last_failed_at integer,
    last_failure text,
    -- The operators were notified that the partner is failing; since when it is. When it last recovered.
    failing_reported_since integer,
    recovered_at integer,
    -- Since when there are customers that are unreadable (readable again) and not reported yet.
    unreadable_pending_since integer,
    readable_pending_since integer,

    -- Mass absence: no absence is recorded since this time. When a person accepted the absences.
    mass_absence_since integer,
    absence_accepted_at integer,

    -- The customer list: size of the last complete one; when one was last read to its end, complete or not.
    list_size integer,
    list_read_at integer,
    -- The first of the short lists in a row that agree with each other.
    list_short_since integer,
    list_short_size integer,
    -- It could not be read: since when, when to retry, failures in a row, and the last error.
    list_failing_since integer,
    list_retry_at integer,
    list_failures integer not null default 0,
    list_error text,

    -- The activity log: records before the cursor were read; the next scan starts a little earlier, because records
    -- appear late.
    activity_log_cursor integer,
    -- When the last scan ended; when the last scan of the whole window ended.
    activity_log_read_at integer,
    activity_log_full_at integer,
    -- 1: a full scan showed that the newest records come first, so a scan may stop at known ones.
    activity_log_newest_first integer not null default 0 check (activity_log_newest_first in (0, 1)),
    -- It could not be read: since when, when to retry, failures in a row, and the last error.
    activity_log_failing_since integer,
    activity_log_retry_at integer,
    activity_log_failures integer not null default 0,
    activity_log_error text,
    -- 1: refused (this cloud has none, or the application lacks the right). Nothing waits for it then.
    activity_log_refused integer not null default 0 check (activity_log_refused in (0, 1)),
    -- 1: it shows submissions, so customers without a qualification are polled at the `unqualified` interval.
    activity_log_counts integer not null default 0 check (activity_log_counts in (0, 1)),

    -- When credentials expire, where known: [{"of": "client secret", "at": "2026-11-21T12:00:00.000Z"}].
    credentials text not null default '[]' check (json_valid(credentials)),
    check ((backoff_until is null) = (backoff_reason is null))
) strict;

-- Records of the days that are still scanned again, each as a hash. Only kept where a scan may stop at them.
create table activity_log_seen (
    partner integer not null references partner (id),
    operation integer not null,
    day integer not null,
    primary key (partner, operation)
) strict, without rowid;
create index activity_log_seen_day on activity_log_seen (partner, day);

-- A customer, from `add` (or its first appearance in the list) to `remove`. Adding it again makes a new row.
create table customer (
    id integer primary key,
    partner integer not null references partner (id),
    -- The tenant id as spelled, and as compared: lower case.
    customer_id text not null,
    customer_key text not null,
    name text not null default '',
    domain text not null default '',
    tags text not null default '[]' check (json_valid(tags)),
    -- The address that routes with `to_contact` send to, or a name for people.
    contact text not null default '',
    -- `manual`: added by hand; `synced`: from Partner Center's list.
    source text not null check (source in ('manual', 'synced')),
    added_at integer not null,
    removed_at integer,
    paused_at integer,
    -- Nobody is notified about this customer since, and until when; null: until unmuted.
    muted_at integer,
    muted_until integer,

    -- Which interval applies, and the priority when the budget is short.
    poll_class text not null default 'unseen'
        check (poll_class in ('confirming', 'in_review', 'settled', 'unseen', 'unqualified')),
    next_poll_at integer not null,
    -- A poll is in flight since. Still set at start: the process died during it.
    polling_since integer,
    -- How many times in a row the process died during a poll.
    interrupted integer not null default 0,
    -- A change is expected (after a denial, a submission): polled at the `in_review` interval until then at the latest.
    watch_closely_until integer,
    -- The last submission in the activity log.
    submitted_at integer,

    -- The last understood response, normalized, and when its request began. Older responses are dropped.
    response text,
    response_requested_at integer,
    first_seen_at integer,
    last_seen_at integer,
    -- Failed polls in a row, the first of them, and the last error.
    poll_failures integer not null default 0,
    failing_since integer,
    last_error text,
    -- Failing for so long that the operators are notified; when they were.
    unreadable_since integer,
    unreadable_reported_at integer,

    -- Membership. 1: was in a list once. Only such a customer can be missing from one.
    was_in_list integer not null default 0 check (was_in_list in (0, 1)),
    -- The first of the complete lists in a row that lack it.
    missing_from_list_since integer,
    -- It responds with 403/20002 (no relationship) since, without an understood response in between.
    refused_since integer,
    -- It departed: polled at the `unqualified` interval for 90 days. `missing`: missing from two lists a day apart.
    -- `refused`: until it responds.
    departed_since integer,
    departed_reason text check (departed_reason in ('missing', 'refused')),
    -- When its departure was handled: reported, if it was in review. Kept until it responds again.
    departure_reported_at integer,
    -- The 90 days are over: not polled until it is in the list again, or a person resumes it.
    given_up_at integer,
    check ((poll_failures = 0) = (failing_since is null))
) strict;
create unique index customer_watched on customer (partner, customer_key) where removed_at is null;
-- The last columns are for counting: `status` reads no rows of customers.
create index customer_due on customer (partner, poll_class, next_poll_at, last_seen_at, departed_since, removed_at, paused_at)
    where removed_at is null and paused_at is null;
create index customer_paused on customer (partner, last_seen_at, departed_since, removed_at, paused_at)
    where removed_at is null and paused_at is not null;
-- The last columns are for the search: it reads no rows of customers.
create index customer_name on customer (partner, lower(name), customer_id, domain, tags, removed_at) where removed_at is null;
create index customer_contact on customer (contact) where contact <> '' and removed_at is null;
create index customer_key on customer (customer_key);
create index customer_polling on customer (polling_since) where polling_since is not null;
create index customer_departed on customer (partner, departed_since)
    where departed_since is not null and removed_at is null and paused_at is null;
create index customer_departed_unreported on customer (partner)
    where departed_since is not null and departure_reported_at is null and removed_at is null;
create index customer_unreadable on customer (partner) where unreadable_since is not null or unreadable_reported_at is not null;

-- The state of one qualification of one customer. The row outlives the entry: attempt and last notified verdict must be
-- known when the entry comes back.
create table qualification_state (
    id integer primary key,
    customer integer not null references customer (id),
    -- The name as spelled, and as compared: lower case without underscores.
    qualification text not null,
    qualification_key text not null,
    -- 0: confirmed absent.
    present integer not null check (present in (0, 1)),
    vetting_status text,
    vetting_reason text,
    vetting_created_at integer,
    -- When this status was first seen.
    status_since integer not null,

    -- The review, counted from 1; 0: none seen yet.
    attempt integer not null,
    -- Its create date, if one was ever shown; when it was first seen.
    attempt_created_at integer,
    attempt_seen_at integer,
    -- When it was submitted: the create date, or when the review was first seen.
    submitted_at integer,

    -- The last notified verdict, or the one stored silently at first sight; when it was seen, its attempt, and the create
    -- date of that attempt.
    notified_verdict text check (notified_verdict in ('Approved', 'Denied')),
    notified_reason text,
    notified_created_at integer,
    notified_at integer,
    notified_attempt integer,
    notified_attempt_created_at integer,

    -- A pending absence: since when; when the entry was last present; confirmations so far, and the last of them.
    missing_since integer,
    missing_last_present_at integer,
    missing_confirmations integer not null default 0,
    missing_confirmed_at integer,

    -- A pending verdict: what the last responses show in place of the stored state; since when; when something else was
    -- last seen; confirmations so far, and the last of them; when it is recorded if it stays.
    pending_status text,
    pending_reason text,
    pending_created_at integer,
    pending_since integer,
    pending_last_other_at integer,
    pending_confirmations integer not null default 0,
    pending_confirmed_at integer,
    pending_until integer,

    -- The attempt that the overdue reminders are about, and up to when those that were due are sent.
    overdue_attempt integer,
    overdue_until integer,
    check ((missing_since is null) = (missing_confirmations = 0)),
    check (present = 1 or missing_since is null),
    check ((notified_verdict is null) = (notified_attempt is null)),
    unique (customer, qualification_key)
) strict;
create index qualification_state_missing on qualification_state (missing_since) where missing_since is not null;
-- By the status as compared. A generated column would keep a read-only connection from `vacuum into`.
create index qualification_state_status on qualification_state (replace(lower(trim(vetting_status)), '_', ''), customer)
    where present = 1;
create index qualification_state_absent on qualification_state (status_since) where present = 0;
create index qualification_state_pending on qualification_state (pending_since) where pending_since is not null;

-- Vetting statuses that are not documented, by partner. Reported once.
create table unknown_status (
    partner integer not null references partner (id),
    -- As compared, and as first spelled.
    status_key text not null,
    status text not null,
    first_seen_at integer not null,
    reported_at integer,
    primary key (partner, status_key)
) strict, without rowid;

-- What changed, with the response that showed it. Never deleted.
create table transition (
    id integer primary key autoincrement,
    customer integer not null references customer (id),
    qualification text not null,
    -- Statuses as spelled; `absent`: no entry; null: an entry without status, or (from_status) never seen before.
    from_status text,
    to_status text,
    vetting_reason text,
    vetting_created_at integer,
    attempt integer not null,
    submitted_at integer,
    -- The change happened between these two.
    last_seen_before_at integer,
    observed_at integer not null,
    -- 1: the customer was first seen with this status.
    first_seen integer not null default 0 check (first_seen in (0, 1)),
    -- The evidence: the response, and Microsoft's ids of it.
    raw_answer text,
    request_id text,
    correlation_id text,
    previous_reason text,
    previous_created_at integer,
    -- How the review ended that it ends, or that an approval was taken back; null: neither, or the end was not seen.
    outcome text check (outcome in ('Approved', 'Denied', 'Revoked', 'Vanished')),
    -- `absent` may also be a word of Partner Center's.
    check (first_seen = 1 or from_status = 'absent' or from_status is not to_status or previous_reason is not vetting_reason
           or previous_created_at is not vetting_created_at)
) strict;
create index transition_customer on transition (customer, observed_at);
create index transition_observed on transition (observed_at);
-- Reviews that were seen to end, and approvals that were taken back: of a qualification, for forecasts; and by time, for reports, which read no other rows.
create index transition_decided on transition (replace(lower(qualification), '_', ''), observed_at, submitted_at)
    where submitted_at is not null and outcome in ('Approved', 'Denied');
create index transition_outcome on transition (observed_at, id, outcome, qualification, attempt, submitted_at, vetting_reason,
                                               customer, last_seen_before_at) where outcome is not null;
create trigger transition_is_kept before delete on transition
begin select raise(abort, 'transitions are never deleted'); end;

-- What happened: one for each transition, and what vetwatch reports of itself.
create table event (
    id text primary key,
    type text not null,
    transition integer unique references transition (id),
    partner integer not null references partner (id),
    customer integer references customer (id),
    occurred_at integer not null,
    -- The `data` object of the webhook.
    data text not null check (json_valid(data)),
    -- An event with this key is enqueued only once.
    dedup_key text unique,
    -- 1: sent to nobody, because the customer was muted.
    muted integer not null default 0 check (muted in (0, 1)),
    -- 1: sent by `test-send`; it is about no real customer.
    test integer not null default 0 check (test in (0, 1))
) strict;
create index event_occurred on event (occurred_at);
create index event_customer on event (customer, occurred_at) where customer is not null;
create index event_test on event (id) where test = 1;

-- The outbox: a message to an endpoint. Its id is the `webhook-id` and the `Message-ID`. While it gathers events the id
-- changes, and what refers to it follows; from its first attempt on it is fixed. The order is the sequence's.
create table delivery (
    sequence integer primary key autoincrement,
    id text not null unique,
    endpoint text not null,
    -- The customer's contact, which gets it beside the endpoint's own recipients: a mail address.
    recipient text,
    -- Events of one group may share a delivery that has no attempt yet.
    group_key text,
    state text not null check (state in ('pending', 'delivered', 'dead')),
    created_at integer not null,
    -- Its lifetime is counted from here.
    first_due_at integer not null,
    -- When the next attempt may begin. An attempt in flight holds it one lease ahead.
    next_attempt_at integer,
    -- Not before this time: a group's wait, quiet hours. Quiet hours defer for at most two weeks, counted from the second.
    deferred_until integer,
    deferred_since integer,
    -- 1: quiet hours apply: those of the routes as they are when it is due.
    respects_quiet_hours integer not null default 0 check (respects_quiet_hours in (0, 1)),
    -- Attempts begun; the position in the retry schedule; attempts in a row that the process did not survive.
    attempts integer not null default 0,
    retry_index integer not null default 0,
    interrupted integer not null default 0,
    -- The message as every attempt sends it, from the first attempt on, and what it was rendered for (`email`, `teams`, ...).
    message text,
    format text,
    -- Why it is in its built-in form: the endpoint's template failed.
    template_error text,
    -- Recipients that accepted or rejected it for good: {"address": "reply"}.
    final_replies text not null default '{}' check (json_valid(final_replies)),
    -- Of them, those that rejected it and are not corrected yet; when the last of them did; when that was reported.
    refused text not null default '{}' check (json_valid(refused)),
    refused_at integer,
    refused_reported_at integer,
    finished_at integer,
    last_error text,
    -- The operators were notified that it is dead, or waits without an end in sight.
    operators_notified_at integer,
    -- Its row cannot be read, as `last_error` says: since when, and when that was reported. It waits.
    unreadable_since integer,
    unreadable_reported_at integer,
    -- It is sent in place of this endpoint's; its events were sent to its endpoint's fallback, too.
    failover_from text,
    failed_over_at integer,
    -- Needs nobody any more: its events, or those of the recipients that rejected it, were sent to another endpoint
    -- instead (`redrive --to`), or a person discarded it.
    redirected_at integer,
    discarded_at integer,
    check ((state = 'pending') = (next_attempt_at is not null)),
    check ((state = 'pending') = (finished_at is null)),
    unique (id, endpoint)
) strict;
create index delivery_pending on delivery (endpoint, next_attempt_at) where state = 'pending';
create index delivery_order on delivery (endpoint, sequence) where state = 'pending';
create index delivery_open on delivery (endpoint, group_key) where state = 'pending' and attempts = 0 and group_key is not null;
create index delivery_state on delivery (state, finished_at);
create index delivery_unreadable on delivery (endpoint) where unreadable_since is not null;
create index delivery_refused on delivery (endpoint, refused_at) where refused <> '{}';
-- Dead and not reported.
create index delivery_unreported on delivery (endpoint) where state = 'dead' and operators_notified_at is null;
-- The newest that an endpoint accepted.
create index delivery_accepted on delivery (endpoint) where state = 'delivered';

-- The ids that a delivery had while it gathered events.
create table delivery_former_id (
    id text primary key,
    delivery integer not null references delivery (sequence)
) strict, without rowid;

create table delivery_event (
    delivery text not null,
    endpoint text not null,
    event text not null references event (id),
    -- Why the endpoint gets it: `route north`, `operators`, `fallback of crm`, `test-send`.
    why text,
    foreign key (delivery, endpoint) references delivery (id, endpoint) on update cascade,
    primary key (event, endpoint) -- one delivery of an event to an endpoint
) strict, without rowid;
create index delivery_event_delivery on delivery_event (delivery);

-- One attempt at a delivery. Without an end: in flight, or the process died during it.
create table attempt (
    id integer primary key,
    delivery text not null references delivery (id),
    number integer not null,
    began_at integer not null,
    ended_at integer,
    outcome text check (outcome in ('accepted', 'failed', 'refused', 'interrupted')),
    -- The response, or why there was none.
    response text,
    check ((ended_at is null) = (outcome is null)),
    unique (delivery, number)
) strict;
create index attempt_open on attempt (delivery) where ended_at is null;
create index attempt_ended on attempt (ended_at);

-- What is known of an endpoint.
create table endpoint (
    name text primary key,
    -- Backing off: it could not be reached, and one delivery at a time probes it.
    closed_since integer,
    probe_at integer,
    -- Failures in a row.
    failures integer not null default 0,
    -- The first message since the last response that was handed over without one.
    unconfirmed_since integer,
    -- It said that it is gone (410): nothing is sent until its configuration changes or somebody redrives. And the
    -- configuration that it was paused under.
    paused_at integer,
    paused_settings text,
    last_accepted_at integer,
    last_error text,
    -- When its template last failed on a message and why, and the configuration with that template.
    template_failed_at integer,
    template_error text,
    template_settings text,
    -- When the operators were notified that it delivers nothing; when they were last notified of its dead deliveries.
    failing_reported_at integer,
    dead_reported_at integer,
    -- It is not in the configuration, and since when that is known.
    unconfigured_since integer,
    check ((closed_since is null) = (probe_at is null))
) strict, without rowid;

-- What the operators were notified of, until they are notified that it is over.
create table raised_alert (
    -- A reason of src/attention.rs, and what it is about: a partner, an endpoint.
    reason text not null,
    about text not null,
    reported_at integer not null,
    -- It looks over since. Reported a little later, unless it comes back.
    over_since integer,
    primary key (reason, about)
) strict, without rowid;

-- One row: until when vetwatch is known to have run, and since when without a gap of more than two minutes; when the clock
-- was last seen to be set by more than a minute. The time that vetwatch did not run counts against nobody.
create table daemon (
    id integer primary key check (id = 1),
    alive_at integer not null,
    alive_since integer,
    clock_set_at integer,
    -- The heartbeat was not accepted: since when, and why.
    heartbeat_failing_since integer,
    heartbeat_error text,
    -- The daemon cannot listen for `[web]`: since when, and why.
    page_failing_since integer,
    page_error text,
    -- The last backup of `[backup]`: when, which file, its size. Since when none succeeds, and why.
    backup_at integer,
    backup_file text,
    backup_bytes integer,
    backup_failing_since integer,
    backup_error text,
    -- This database was restored from a backup: when, and until when the backup knows what happened.
    restored_at integer,
    restored_until integer,
    -- The summary of `[summary]`: until when the last one told; from when its next time counts; the schedule at that time.
    summary_until integer,
    summary_from integer,
    summary_schedule text,
    -- With `[standby]`: the host that led last.
    last_leader text
) strict;

-- One row: the configuration of the daemon.
create table configuration (
    id integer primary key check (id = 1),
    -- Reloads that began and that ended, the start included: a command waits for one that began after it asked.
    begun integer not null,
    ended integer not null,
    -- When the one in force was read; since when the file is refused.
    loaded_at integer not null,
    refused_at integer,
    -- What the last reload changed, or why it was refused.
    lines text not null default '[]' check (json_valid(lines))
) strict;

---------------------------------------------------------------------------------------------------------------
-- The views: ISO 8601 in UTC, readable names. Documented; changing one is a breaking change. A number that is computed is
-- cast, or programs that ask for a column's type (DuckDB) take it for a text; they cannot read count(*) in a subquery.

create view v_current as
select p.name as partner,
       c.customer_id,
       c.name as customer_name,
       c.domain as customer_domain,
       o.qualification,
       o.vetting_status,
       o.vetting_reason,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.vetting_created_at / 1000.0, 'unixepoch') as vetting_created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.status_since / 1000.0, 'unixepoch') as status_since,
       o.attempt,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.last_seen_at / 1000.0, 'unixepoch') as last_seen_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', case when c.paused_at is null then c.next_poll_at end / 1000.0, 'unixepoch') as next_poll_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.missing_since / 1000.0, 'unixepoch') as missing_since
from qualification_state o
join customer c on c.id = o.customer
join partner p on p.id = c.partner
where o.present = 1 and c.removed_at is null;

create view v_transitions as
select t.id as transition_id,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.observed_at / 1000.0, 'unixepoch') as observed_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.last_seen_before_at / 1000.0, 'unixepoch') as last_seen_before_at,
       p.name as partner,
       c.customer_id,
       c.name as customer_name,
       t.qualification,
       t.from_status,
       t.to_status,
       t.vetting_reason,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.vetting_created_at / 1000.0, 'unixepoch') as vetting_created_at,
       t.attempt,
       e.type as event_type,
       e.id as event_id,
       t.correlation_id
from transition t
join customer c on c.id = t.customer
join partner p on p.id = c.partner
left join event e on e.transition = t.id;

-- Names are looked up only where they are asked for: a count of a million decisions reads an index alone.
create view v_decisions as
select (select p.name from customer c join partner p on p.id = c.partner where c.id = t.customer) as partner,
       (select c.customer_id from customer c where c.id = t.customer) as customer_id,
       (select c.name from customer c where c.id = t.customer) as customer_name,
       t.qualification,
       t.attempt,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.submitted_at / 1000.0, 'unixepoch') as submitted_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.last_seen_before_at / 1000.0, 'unixepoch') as decided_after,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.observed_at / 1000.0, 'unixepoch') as decided_before,
       t.outcome,
       t.vetting_reason,
       cast(round((t.observed_at - t.submitted_at) / 3600000.0, 2) as double) as hours_in_review
from transition t
where t.outcome in ('Approved', 'Denied');

create view v_deliveries as
select d.id as delivery_id,
       d.endpoint,
       d.state,
       d.attempts,
       cast((select count(de.event) from delivery_event de where de.delivery = d.id) as integer) as events,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.created_at / 1000.0, 'unixepoch') as created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.next_attempt_at / 1000.0, 'unixepoch') as next_attempt_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.finished_at / 1000.0, 'unixepoch') as finished_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.redirected_at / 1000.0, 'unixepoch') as redirected_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.discarded_at / 1000.0, 'unixepoch') as discarded_at,
       d.last_error
from delivery d;

create view v_customers as
select p.name as partner,
       c.customer_id,
       c.name,
       c.domain,
       coalesce((select group_concat(value, ',') from json_each(c.tags)), '') as tags,
       c.contact,
       cast(c.paused_at is not null as integer) as paused,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.last_seen_at / 1000.0, 'unixepoch') as last_seen_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', case when c.paused_at is null then c.next_poll_at end / 1000.0, 'unixepoch') as next_poll_at,
       c.poll_failures,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.failing_since / 1000.0, 'unixepoch') as failing_since,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.unreadable_since / 1000.0, 'unixepoch') as unreadable_since,
       c.last_error,
       c.poll_class,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.added_at / 1000.0, 'unixepoch') as added_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.departed_since / 1000.0, 'unixepoch') as departed_since,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.muted_at / 1000.0, 'unixepoch') as muted_since,
       strftime('%Y-%m-%dT%H:%M:%fZ', c.muted_until / 1000.0, 'unixepoch') as muted_until
from customer c
join partner p on p.id = c.partner
-- The plus keeps SQLite from reading all customers by an index of those that were not removed, which takes ten times as long.
where +c.removed_at is null;
