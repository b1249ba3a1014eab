//! The programs that analysts read the database with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vetwatch::time::Clock as _;

use crate::docs::{a_year, blocks, rename, write};
use crate::peers;
use crate::process::DaemonHarness;

/// Columns that are numbers.
const NUMBERS: [&str; 10] = [
    "v_current.attempt",
    "v_transitions.transition_id",
    "v_transitions.attempt",
    "v_decisions.attempt",
    "v_decisions.hours_in_review",
    "v_deliveries.attempts",
    "v_deliveries.events",
    "v_customers.paused",
    "v_customers.poll_failures",
    "v_customers.name",
];

/// A name that looks like HTML, and turns the direction of what follows.
const HOSTILE: &str = "<script>alert('school')</script>&lt;\u{202e}\"School";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pandas_duckdb_and_datasette_read_every_view_while_somebody_writes() {
    let world = a_year().await;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let id = world.rows("select customer_id from v_customers where name = 'Contoso School 10'").await.remove(0);
    let approved = world.rows("select customer_id from v_customers where name = 'Contoso School 0'").await.remove(0);
    rename(&world.store, &approved, HOSTILE, world.clock.now()).await;
    let writer = tokio::spawn(write(world.store.clone(), id, world.clock.now(), stop.clone(), written.clone()));
    let queries: Vec<String> = blocks("sql").into_iter().map(|(_, sql)| sql).collect();
    let file = world.config.database.with_file_name("queries.json");
    std::fs::write(&file, serde_json::to_string(&queries).unwrap()).unwrap();
    let mut reading = peers::tool("read_views.py");
    reading.arg(&world.config.database).arg(&file);
    reading.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/datasette.yml")).arg(HOSTILE);
    let before = written.load(Ordering::Relaxed);
    let read = tokio::task::spawn_blocking(move || reading.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&read.stdout);
    assert!(read.status.success(), "{said}{}", String::from_utf8_lossy(&read.stderr));
    assert_eq!(said.lines().count(), 5, "{said}");
    assert!(!writer.is_finished() && written.load(Ordering::Relaxed) > before, "the writer was held up");
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

/// `DuckDB` asks for the types of the columns of a view.
#[tokio::test]
async fn the_views_have_numbers_where_numbers_are() {
    let world = crate::world::World::new().await;
    for column in NUMBERS {
        let (view, name) = column.split_once('.').unwrap();
        let kind = world.rows(&format!("select type from pragma_table_info('{view}') where name = '{name}'")).await;
        let is_number = ["INTEGER", "INT", "REAL", "NUM"].contains(&kind[0].to_uppercase().as_str());
        assert_eq!(is_number, name != "name", "{column}: {kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_in_a_file_has_the_mark_that_excel_needs_and_in_a_pipe_none() {
    let town = DaemonHarness::new("in_review = \"1h\"", "").await;
    town.in_review(1).await;
    let arguments = ["history", "--format", "csv"];
    let piped = town.run(&arguments).stdout;
    assert!(piped.starts_with(b"transition_id,"), "{}", String::from_utf8_lossy(&piped));
    let file = town.folder.path().join("history.csv");
    for (append, marks) in [(false, 1), (true, 1)] {
        let into = std::fs::File::options().create(true).write(true).append(append).open(&file).unwrap();
        let child = town.start_command_into(&arguments, into);
        assert!(child.wait_with_output().unwrap().status.success());
        let written = std::fs::read(&file).unwrap();
        assert_eq!(&written[..3], b"\xEF\xBB\xBF");
        assert_eq!(String::from_utf8(written).unwrap().matches('\u{feff}').count(), marks, "append: {append}");
    }
    // What was exported can be imported: braces and the mark are Excel's.
    let id = "{0000000A-0000-4000-8000-000000000000}";
    let list = town.folder.path().join("list.csv");
    std::fs::write(&list, format!("\u{feff}sep=,\r\nid,name,\r\n{id},Contoso,\r\n")).unwrap();
    assert_eq!(town.tell(&["customers", "import", list.to_str().unwrap()])["added"], 1);
    for name in [id, "0000000a000040008000000000000000", "0000000a-0000-4000-8000-000000000000"] {
        let shown = town.tell(&["status", name]);
        assert_eq!(shown["customer"]["customer_id"], "0000000A-0000-4000-8000-000000000000", "{name}");
    }
}
