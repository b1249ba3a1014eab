//! A member of the group `vetwatch`: may read the database and the configuration, but no secret.

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::Desk;

#[tokio::test]
async fn who_may_only_read_sees_everything_without_secrets_and_without_waiting_for_a_writer() {
    let mut desk = Desk::new().await;
    let school = desk.customer("Contoso School").await;
    desk.sandbox.submit(&school).unwrap();
    desk.run(&["poll"]).await.exits(0);
    desk.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    desk.run(&["poll"]).await.exits(0);
    let id = desk.rows("select delivery_id from v_deliveries").await.remove(0);

    let file = SqliteConnectOptions::new().filename(desk.path("vetwatch.db"));
    let mut writer = file.connect().await.unwrap();
    sqlx::query("begin immediate").execute(&mut writer).await.unwrap();
    sqlx::query("update customer set name = 'half done'").execute(&mut writer).await.unwrap();
    desk.as_analyst();
    for arguments in [
        &["status"][..],
        &["status", "Contoso School"],
        &["history"],
        &["history", "--format", "csv"],
        &["customers", "list"],
        &["deliveries", "list"],
        &["deliveries", "show", &id],
    ] {
        // No daemon runs, which needs attention.
        let said = desk.run(arguments).await.exits(if arguments == ["status"] { 3 } else { 0 });
        assert!(said.out.contains("Contoso School"), "{arguments:?}: {said:?}");
        assert_eq!(said.err, "", "{arguments:?}");
    }
    let status = desk.run(&["status", "--json"]).await.exits(3).json();
    assert_eq!(status["in_review"].as_array().unwrap().len(), 0);

    // Every change is rejected immediately, with an explanation.
    for arguments in
        [&["customers", "pause", "Contoso School"][..], &["customers", "add", &school], &["deliveries", "redrive", &id]]
    {
        let said = desk.run(arguments).await.exits(1);
        assert!(said.err.contains("may this user write to it?"), "{arguments:?}: {said:?}");
        assert_eq!(said.err.matches("vetwatch.db").count(), 1, "said once: {said:?}");
    }
    let said = desk.run(&["poll"]).await.exits(78);
    assert!(said.err.contains("client_secret_file"), "{said:?}");
    sqlx::query("rollback").execute(&mut writer).await.unwrap();
    assert_eq!(desk.rows("select name from v_customers").await, ["Contoso School"]);
}
