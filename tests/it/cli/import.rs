//! `vetwatch customers import`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Desk, EVIL, Said};

fn id(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-00000000000C")
}

impl Desk {
    fn file(&self, text: impl AsRef<[u8]>) -> String {
        let path = self.path("customers.csv");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    async fn import(&self, text: impl AsRef<[u8]>) -> Said {
        self.run(&["customers", "import", &self.file(text)]).await
    }

    async fn customer_rows(&self) -> Vec<String> {
        self.rows("select customer_id, name, domain, tags, contact from v_customers order by customer_id").await
    }
}

#[tokio::test]
async fn a_file_of_customers_is_taken_over_and_says_who_is_new() {
    let desk = Desk::new().await;
    let (one, two, three) = (id(1), id(2), id(3));
    let file = format!(
        "\u{FEFF}Contact,id,tags,name,domain\r\n\
         ada@contoso.example,{one},north;vip,\"Contoso, \"\"the\"\" School\",contoso.example\r\n\
         ,{two},,Fabrikam,\r\n\
         ,,,,\r\n"
    );
    let said = desk.import(&file).await.exits(0);
    assert_eq!(said.out, "emea: 2 customers added, 0 updated, 0 left as they were.\n");
    let contoso = format!("{one} | Contoso, \"the\" School | contoso.example | north,vip | ada@contoso.example");
    assert_eq!(desk.customer_rows().await, [contoso.clone(), format!("{two} | Fabrikam |  |  | ")]);
    // They are due now, as if added by hand.
    assert_eq!(
        desk.rows("select count(*) from customer where next_poll_at = added_at and source = 'manual'").await,
        ["2"]
    );

    // The same file again changes nothing, and empty cells keep the stored values.
    assert!(desk.import(&file).await.exits(0).out.contains("0 customers added, 0 updated, 2 left"));
    let more = format!("id,name,tags\n{},,\n{two},Fabrikam University,a|b\n{three},Northwind,\n", one.to_lowercase());
    let summary = desk.json(&["customers", "import", &desk.file(more)]).await;
    assert_eq!(
        summary,
        json!({ "partner": "emea", "dry_run": false, "added": 1, "returned": 0, "updated": 1, "unchanged": 1, "unusable_contacts": [] })
    );
    let fabrikam = format!("{two} | Fabrikam University |  | a,b | ");
    assert_eq!(desk.customer_rows().await, [contoso, fabrikam, format!("{three} | Northwind |  |  | ")]);
    let listed = desk.json(&["customers", "list", "--tag", "vip"]).await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["contact"]), (1, &json!("ada@contoso.example")));
}

#[tokio::test]
async fn every_bad_line_is_named_and_nothing_is_half_imported() {
    let desk = Desk::new().await;
    let mut file = format!("id,name,tags\n{},Contoso,\n", id(1));
    let _ = write!(file, "contoso.example,Contoso,\n{},\"{EVIL}\",\n{},Contoso,\"a,b\"\n\n", id(2), id(3));
    let _ = write!(file, "{},Contoso again,\n{},Contoso,,x\n", id(1).to_lowercase(), id(4));
    let said = desk.import(&file).await.exits(1);
    assert_eq!(said.out, "");
    let lines: Vec<&str> = said.err.lines().collect();
    assert!(lines[0].ends_with("customers.csv has 5 lines that are wrong"), "{said:?}");
    for (line, start) in lines[1..].iter().zip([
        "  line 3: \"contoso.example\" is not a tenant id",
        // The name continues in the next line.
        "  line 4: name ",
        "  line 6: \"a,b\" is not a tag",
        "  line 8: the same id as in line 2",
        "  line 9: 4 cells where the first line has 3",
    ]) {
        assert!(line.starts_with(start), "{start}: {said:?}");
    }
    let error = desk.run(&["customers", "import", &desk.file(&file), "--json"]).await.exits(1).error();
    assert_eq!(error["details"].as_array().unwrap().len(), 5, "{error}");
    assert!(!desk.path("vetwatch.db").exists(), "the database is not even made");

    desk.import(format!("id\n{}\n", id(9))).await.exits(0);
    desk.import(&file).await.exits(1);
    let said = desk.import("id,nmae,e-mail\n").await.exits(1);
    assert!(
        said.err.contains("line 1: unknown column \"nmae\", did you mean name?; unknown column \"e-mail\""),
        "{said:?}"
    );
    assert!(desk.import("").await.exits(1).err.contains("the file is empty"));
    assert_eq!(desk.rows("select count(*) from customer").await, ["1"]);
    assert!(desk.import("id,name\n").await.exits(0).out.contains("0 customers added"));
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let desk = Desk::new().await;
    let file = desk.file(format!("id,name\n{},Contoso\n{},Fabrikam\n", id(1), id(2)));
    let dry = ["customers", "import", &file, "--dry-run"];
    assert!(desk.run(&dry).await.exits(0).out.contains("emea: 2 customers would be added, 0 updated"));
    assert!(!desk.path("vetwatch.db").exists(), "the database is not even made");
    desk.run(&["customers", "add", &id(1), "--name", "Contoso School"]).await.exits(0);
    let told = desk.json(&dry).await;
    assert_eq!((&told["added"], &told["updated"], &told["dry_run"]), (&json!(1), &json!(1), &json!(true)));
    assert_eq!(desk.customer_rows().await, [format!("{} | Contoso School |  |  | ", id(1))]);
}

#[tokio::test]
async fn a_file_comes_through_a_pipe_as_well_and_who_was_removed_is_watched_anew() {
    let desk = Desk::new().await;
    let file = desk.file(format!("name,id\nContoso,{}\n", id(1)));
    let piped = async |arguments: &[&str]| -> Value {
        let mut command = desk.command(arguments);
        command.stdin(File::open(&file).unwrap()).stdout(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(piped(&["customers", "import", "-", "--json"]).await["added"], 1);
    desk.run(&["customers", "remove", &id(1)]).await.exits(0);
    let told = piped(&["customers", "import", "-", "--json", "--partner", "emea"]).await;
    assert_eq!((&told["added"], &told["returned"]), (&json!(1), &json!(1)));
    assert_eq!(desk.rows("select count(*), count(removed_at) from customer").await, ["2 | 1"]);

    let missing = desk.run(&["customers", "import", "nowhere.csv", "--json"]).await.exits(1).error();
    assert!(missing["message"].as_str().unwrap().contains("nowhere.csv cannot be read"), "{missing}");
    desk.run(&["customers", "import", "."]).await.exits(1);
    desk.run(&["customers", "import", &file, "--partner", "amer"]).await.exits(4);
    desk.run(&["customers", "import"]).await.exits(2);
}

#[tokio::test]
async fn who_was_synced_keeps_its_history_and_takes_name_and_tags_from_the_file() {
    let mut desk = Desk::new().await;
    let school = desk.unwatched_customer("Contoso School");
    desk.run(&["customers", "sync", "--partner", "emea"]).await.exits(0);
    desk.sandbox.submit(&school).unwrap();
    desk.run(&["poll"]).await.exits(0);
    let told = desk.import(format!("id,tags\n{school},north\n")).await.exits(0).out;
    assert!(told.contains("0 customers added, 1 updated"), "{told}");
    assert_eq!(desk.rows("select customer_name, vetting_status from v_current").await, ["Contoso School | InReview"]);
    assert_eq!(desk.rows("select source, tags, poll_class from customer").await, ["manual | [\"north\"] | in_review"]);
}

#[tokio::test]
async fn a_hundred_thousand_customers_are_imported_in_seconds() {
    let desk = Desk::new().await;
    let mut file = String::from("id,name,domain,tags,contact\n");
    for n in 0..100_000 {
        let _ = writeln!(file, "{},School {n},school{n}.example,north;size {},ada{n}@school.example", id(n), n % 7);
    }
    let first = desk.json(&["customers", "import", &desk.file(&file)]).await;
    assert_eq!((&first["added"], &first["updated"]), (&json!(100_000), &json!(0)));
    let again = desk.json(&["customers", "import", &desk.file(file.replace("School 1", "Academy 1"))]).await;
    assert_eq!((&again["added"], &again["updated"]), (&json!(0), &json!(11_111)));
    assert_eq!(desk.rows("select count(*), count(distinct contact) from v_customers").await, ["100000 | 100000"]);
}

#[tokio::test]
async fn a_contact_may_hold_several_addresses_and_what_is_none_is_named_with_its_line() {
    let desk = Desk::new().await;
    let file = format!(
        "id,contact\n{},a@x.example; b@y.example\n{},mailto:c@z.example\n{},\"Meier, Jan <jan@x.example>\"\n\
         {},Jan Meier\n{},jürgen@x.example\n{},\n",
        id(1),
        id(2),
        id(3),
        id(4),
        id(5),
        id(6)
    );
    let said = desk.import(&file).await.exits(0);
    assert_eq!(said.out, "emea: 6 customers added, 0 updated, 0 left as they were.\n");
    assert_eq!(
        said.err,
        "line 4: contact: \"Meier\" is no mail address such as sales@contoso.example; it is stored, and gets no mail\n\
         line 5: contact: \"Jan Meier\" is no mail address such as sales@contoso.example; it is stored, and gets no mail\n\
         line 6: contact: \"jürgen@x.example\" is not ASCII before the @; many mail servers accept no such address; \
         it is stored, and gets no mail\n"
    );
    let stored = desk.rows("select contact from v_customers order by customer_id").await;
    let written = [
        "a@x.example; b@y.example",
        "mailto:c@z.example",
        "Meier, Jan <jan@x.example>",
        "Jan Meier",
        "jürgen@x.example",
        "",
    ];
    assert_eq!(stored, written, "as written");
    let summary = desk.json(&["customers", "import", "--dry-run", &desk.file(&file)]).await;
    let unusable = summary["unusable_contacts"].as_array().unwrap();
    assert_eq!(unusable.len(), 3);
    assert_eq!((&unusable[0]["line"], &unusable[0]["contact"]), (&json!(4), &json!("Meier")));
}

#[tokio::test]
async fn a_customer_is_added_with_a_contact_and_a_wrong_one_is_refused() {
    let desk = Desk::new().await;
    desk.run(&["customers", "add", &id(1), "--contact", "a@x.example; Jan <b@y.example>"]).await.exits(0);
    assert_eq!(desk.rows("select contact from v_customers").await, ["a@x.example; Jan <b@y.example>"]);
    let said = desk.run(&["customers", "add", &id(2), "--contact", "a@x.example; Jan"]).await.exits(2);
    assert!(said.err.contains("\"Jan\" is no mail address"), "{said:#?}");
    assert_eq!(desk.rows("select count(*) from customer").await, ["1"]);
}
