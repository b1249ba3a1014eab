//! Rows of the views that are found by an index, as queries with a condition of their own.

/// Rows of `v_customers` that are found by an index. A condition on the view's columns reads every row.
macro_rules! customer_rows {
    ($where:tt, $($value:expr),* $(,)?) => {
        sqlx::query_as!(
            CustomerRow,
            r#"select c.id as "row!: CustomerId", p.name as "partner!", c.customer_id as "customer_id!", c.name as "name!", c.domain as "domain!",
                      coalesce((select group_concat(value, ',') from json_each(c.tags)), '') as "tags!: String",
                      c.contact as "contact!", c.paused_at is not null as "paused!: bool",
                      strftime('%Y-%m-%dT%H:%M:%fZ', c.last_seen_at / 1000.0, 'unixepoch') as "last_seen_at: String",
                      case when c.paused_at is null
                           then strftime('%Y-%m-%dT%H:%M:%fZ', c.next_poll_at / 1000.0, 'unixepoch') end as "next_poll_at: String",
                      c.poll_failures as "poll_failures!: i64",
                      strftime('%Y-%m-%dT%H:%M:%fZ', c.failing_since / 1000.0, 'unixepoch') as "failing_since: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', c.unreadable_since / 1000.0, 'unixepoch') as "unreadable_since: String",
                      c.last_error as "last_error: String", c.poll_class as "poll_class!",
                      strftime('%Y-%m-%dT%H:%M:%fZ', c.added_at / 1000.0, 'unixepoch') as "added_at!: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', c.departed_since / 1000.0, 'unixepoch') as "departed_since: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', c.muted_at / 1000.0, 'unixepoch') as "muted_since: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', c.muted_until / 1000.0, 'unixepoch') as "muted_until: String"
               from partner p join customer c on c.partner = p.id
               where c.removed_at is null and "# + $where,
            $($value),*
        )
    };
}

/// Rows of `v_current`; as above.
macro_rules! current_rows {
    ($where:tt, $($value:expr),* $(,)?) => {
        sqlx::query_as!(
            CurrentRow,
            r#"select p.name as "partner!", c.customer_id as "customer_id!", c.name as "customer_name!",
                      c.domain as "customer_domain!", o.qualification as "qualification!",
                      o.vetting_status as "vetting_status: String", o.vetting_reason as "vetting_reason: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', o.vetting_created_at / 1000.0, 'unixepoch') as "vetting_created_at: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', o.status_since / 1000.0, 'unixepoch') as "status_since!: String",
                      o.attempt as "attempt!: i64",
                      strftime('%Y-%m-%dT%H:%M:%fZ', c.last_seen_at / 1000.0, 'unixepoch') as "last_seen_at: String",
                      case when c.paused_at is null
                           then strftime('%Y-%m-%dT%H:%M:%fZ', c.next_poll_at / 1000.0, 'unixepoch') end as "next_poll_at: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', o.missing_since / 1000.0, 'unixepoch') as "missing_since: String"
               from qualification_state o
               join customer c on c.id = o.customer
               join partner p on p.id = c.partner
               where o.present = 1 and c.removed_at is null and "# + $where,
            $($value),*
        )
    };
}

/// Rows of `v_decisions`, of transitions with an outcome; as above.
macro_rules! decision_rows {
    ($where:tt, $($value:expr),* $(,)?) => {
        sqlx::query_as!(
            DecisionRow,
            r#"select p.name as "partner!", c.customer_id as "customer_id!", c.name as "customer_name!",
                      t.qualification as "qualification!", t.attempt as "attempt!: i64",
                      strftime('%Y-%m-%dT%H:%M:%fZ', t.submitted_at / 1000.0, 'unixepoch') as "submitted_at: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', t.last_seen_before_at / 1000.0, 'unixepoch') as "decided_after: String",
                      strftime('%Y-%m-%dT%H:%M:%fZ', t.observed_at / 1000.0, 'unixepoch') as "decided_before!: String",
                      t.outcome as "outcome!: String",
                      t.vetting_reason as "vetting_reason: String",
                      case when t.outcome <> 'Revoked' then round((t.observed_at - t.submitted_at) / 3600000.0, 2) end as "hours_in_review: f64"
               from transition t
               join customer c on c.id = t.customer
               join partner p on p.id = c.partner
               where "# + $where,
            $($value),*
        )
    };
}
