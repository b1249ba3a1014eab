//! Databases of older versions are taken over.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection};
use vetwatch::store::Store;

use crate::world::rows;

const VIEWS: [&str; 5] = ["v_current", "v_transitions", "v_decisions", "v_deliveries", "v_customers"];

/// A database of the first release: its tables and views, filled.
async fn first_release(path: &Path) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut database: SqliteConnection = options.connect().await.unwrap();
    let mut migrator = sqlx::migrate!();
    migrator.migrations.to_mut().retain(|migration| migration.version == 1);
    migrator.run(&mut database).await.unwrap();
    let rows = include_str!("../data/first-release.sql");
    sqlx::raw_sql(AssertSqlSafe(rows.to_owned())).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

/// Contents of the views, in the columns of the first release.
async fn shown(path: &Path, columns: &[String]) -> Vec<Vec<String>> {
    let mut shown = Vec::new();
    for (view, columns) in VIEWS.iter().zip(columns) {
        shown.push(rows(path, &format!("select {columns} from {view} order by 1, 2, 3")).await);
    }
    shown
}

#[tokio::test]
async fn a_database_of_the_first_release_is_taken_over_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vetwatch.db");
    first_release(&path).await;
    let mut columns = Vec::new();
    for view in VIEWS {
        columns
            .push(rows(&path, &format!("select group_concat(name) from pragma_table_info('{view}')")).await.remove(0));
    }
    let before = shown(&path, &columns).await;
    assert!(before.iter().all(|rows| !rows.is_empty()), "{before:#?}");
    for _ in 0..2 {
        drop(Store::open(&path).await.unwrap());
        assert_eq!(shown(&path, &columns).await, before);
    }
    assert_eq!(rows(&path, "pragma integrity_check").await, ["ok"]);
    assert_eq!(rows(&path, "select count(*) from pragma_foreign_key_check").await, ["0"]);
}

#[tokio::test]
async fn a_database_of_before_the_first_release_is_refused_in_words_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for applied in ["(1, 'init', x'00')", "(1, 'init', x'00'), (18, 'attention', x'00')"] {
        let path = folder.path().join("vetwatch.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut database: SqliteConnection = options.connect().await.unwrap();
        let sql = format!(
            "create table _sqlx_migrations (version bigint primary key, description text not null,
                 installed_on timestamp not null default current_timestamp, success boolean not null default true,
                 checksum blob not null, execution_time bigint not null default 0);
             insert into _sqlx_migrations (version, description, checksum) values {applied};
             create table former (id integer primary key)"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
        for error in [Store::open(&path).await.unwrap_err(), Store::open_to_read(&path).await.unwrap_err()] {
            let said = error.to_string();
            assert!(said.contains("of before the first release") && said.contains("nothing was changed"), "{said}");
        }
        assert_eq!(rows(&path, "select count(*) from sqlite_schema where name = 'partner'").await, ["0"]);
        std::fs::remove_file(&path).unwrap();
    }
}
