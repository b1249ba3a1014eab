//! No query reads a whole table that grows, by SQLite's own plan.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Row as _};
use tempfile::TempDir;
use vetwatch::store::Store;

/// The tables that grow with the customers and the years.
const GROWING: [&str; 7] =
    ["customer", "qualification_state", "transition", "event", "delivery", "delivery_event", "attempt"];

/// Queries that may read a whole table, by a part of their text, and why.
const ALLOWED: [(&str, &str); 8] = [
    ("from customer c join partner p on p.id = c.partner order by c.id", "a customer is looked for by name"),
    ("update customer set last_seen_at = last_seen_at + ?1", "the clock was set"),
    ("update customer set missing_from_list_since = missing_from_list_since + ?1", "the clock was set"),
    ("update qualification_state set ", "the clock was set"),
    ("insert into customer (", "the plan of the foreign keys, which is not run"),
    (
        "update customer set next_poll_at = ?1 where removed_at is null and paused_at is null and id in (select customer",
        "a person accepts absences",
    ),
    (
        "union select c.customer_id, e.data ->> '$.customer.name'",
        "a support bundle leaves out every name that was ever known",
    ),
    ("where ?1 is null and (?2 is null or d.endpoint = ?2)", "the newest messages of any state"),
];

/// The growing tables that a plan reads row by row, as `table alias`. The index that it covers is enough to count.
fn scans(sql: &str, plan: &[String]) -> Vec<String> {
    let words: Vec<&str> = sql.split(|c: char| c.is_whitespace() || c == ',' || c == '(' || c == ')').collect();
    let of_table = |table: &str, name: &str| {
        name == table || words.windows(3).any(|w| w[0] == table && (w[1] == name || (w[1] == "as" && w[2] == name)))
    };
    let read = plan.iter().filter_map(|step| step.strip_prefix("SCAN "));
    let whole = read.filter(|step| !step.contains("USING") || step.contains("AUTOMATIC"));
    let names = whole.map(|step| step.split(' ').next().unwrap_or_default());
    names.filter(|name| GROWING.iter().any(|table| of_table(table, name))).map(str::to_owned).collect()
}

fn squeezed(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn empty_database() -> (TempDir, SqlitePool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vetwatch.db");
    Store::open(&path).await.unwrap().close().await;
    let pool = SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    (folder, pool)
}

/// The steps of a query's plan.
async fn plan(pool: &SqlitePool, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(format!("explain query plan {sql}"))).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get("detail")).collect()
}

#[tokio::test]
async fn no_query_reads_a_whole_table_that_grows() {
    let (_folder, pool) = empty_database().await;
    let mut found = BTreeSet::new();
    let mut queries = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx")).unwrap() {
        let query: Value = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        let sql = query["query"].as_str().unwrap();
        queries += 1;
        let plan = plan(&pool, sql).await;
        let scans = scans(sql, &plan);
        if !scans.is_empty() && !ALLOWED.iter().any(|(part, _)| squeezed(sql).contains(&squeezed(part))) {
            found.insert(format!("{scans:?}\n{sql}\n{}", plan.join("\n")));
        }
    }
    assert!(queries > 100, "{queries}");
    assert!(found.is_empty(), "{} queries:\n{}", found.len(), found.into_iter().collect::<Vec<_>>().join("\n\n"));
}

/// To read every row by an index that does not hold the columns takes ten times as long as to read the table.
#[tokio::test]
async fn no_documented_query_but_for_sums_reads_a_whole_table_row_by_row_through_an_index() {
    let (_folder, pool) = empty_database().await;
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/database.md")).unwrap();
    let blocks = page.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap());
    let queries: Vec<_> = blocks.filter(|sql| sql.starts_with("select") && !sql.contains("group by")).collect();
    assert!(queries.len() >= 5, "{}", queries.len());
    for sql in queries {
        for step in plan(&pool, sql).await {
            let reads_by_index = step.starts_with("SCAN ") && step.contains("USING INDEX");
            assert!(!reads_by_index, "{step}\n{sql}");
        }
    }
}
