//! Does the schedule fit the budget?

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::Desk;

async fn execute(desk: &Desk, sql: &'static str) {
    let mut database = SqliteConnectOptions::new().filename(desk.path("vetwatch.db")).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn check_computes_beforehand_whether_the_schedule_fits_the_budget() {
    let slow = |text: String| text.replace("requests_per_minute = 60000", "requests_per_minute = 60");
    let mut desk = Desk::with("in_review = \"1m\"\nsettled = \"24h\"", slow).await;
    let checked = desk.run(&["check"]).await.exits(0).out;
    assert!(checked.contains("(enough for 56 customers in review or 81151 settled)"), "{checked}");
    assert!(!desk.path("vetwatch.db").exists(), "check makes nothing");
    for n in 0..3 {
        desk.customer(&format!("School {n}")).await;
    }
    let checked = desk.run(&["check"]).await.exits(0).out;
    assert!(!checked.contains("does not fit"), "{checked}");

    // Fifty-seven of them are in review.
    execute(
        &desk,
        "with recursive n (n) as (select 4 union all select n + 1 from n where n < 57)
         insert into customer (partner, customer_id, customer_key, source, added_at, next_poll_at, poll_class)
         select 1, cast(n as text), cast(n as text), 'manual', 1, 1, 'in_review' from n;
         update customer set poll_class = 'in_review'",
    )
    .await;
    let checked = desk.run(&["check"]).await.exits(0).out;
    let warning = ": warning: partner \"emea\": requests_per_minute: the schedule does not fit: it asks for 58.5 \
                   requests a minute (57 in review every 1m), and 60 a minute allow 58 in the long run, so customers are \
                   asked later than it says; raise requests_per_minute as far as Microsoft allows, or the intervals of \
                   [schedule]\n";
    assert!(checked.contains(warning), "{checked}");
    assert_eq!(desk.json(&["check"]).await["warnings"][1]["path"], "partner[0].requests_per_minute");
    execute(&desk, "update customer set paused_at = 1 where id > 50").await;
    let checked = desk.run(&["check"]).await.exits(0).out;
    assert!(!checked.contains("does not fit"), "{checked}");
}
