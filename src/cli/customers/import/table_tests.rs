use super::*;

const A: &str = "8a2c4f6e-1b3d-4c5a-9e7f-0123456789ab";
const B: &str = "9B2c4f6e-1b3d-4c5a-9e7f-0123456789ab";

/// Each row as `line: name, domain, tags, contact`, each problem as `line! why`.
fn read(text: impl AsRef<[u8]>) -> Vec<String> {
    let mut rows = Vec::new();
    let mut table = match Table::open(text.as_ref()) {
        Ok(table) => table,
        Err(problem) => return vec![describe(&problem)],
    };
    loop {
        match table.next() {
            Ok(None) => return rows,
            Ok(Some(Row { line, customer, .. })) => {
                let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
                let tags = customer.tags.map(|tags| tags.join("+"));
                let cells = [customer.name, customer.domain, tags, customer.contact].map(or_dash);
                rows.push(format!("{line}: {}", cells.join(", ")));
            }
            Err(problem) => rows.push(describe(&problem)),
        }
    }
}

fn describe(problem: &Problem) -> String {
    match problem {
        Problem::Line { line, why } => format!("{line}! {why}"),
        Problem::Io(error) => format!("! {error}"),
    }
}

#[test]
fn columns_come_in_any_order_and_casing_and_only_the_id_is_needed() {
    assert_eq!(read(format!("id\n{A}\n")), ["2: -, -, -, -"]);
    assert_eq!(
        read(format!("Contact, TAGS ,id,Name,domain\nada@contoso.example, a;b | a;;,{A}, Contoso ,contoso.example")),
        ["2: Contoso, contoso.example, a+b, ada@contoso.example"]
    );
    assert_eq!(read(format!("id,name\r\n{A},\r\n{B},\" \"\r\n")), ["2: -, -, -, -", "3: -, -, -, -"]);
}

#[test]
fn it_is_read_as_rfc_4180_says_and_a_byte_order_mark_is_no_part_of_it() {
    assert_eq!(
        read(format!("\u{FEFF}\"id\",\"name\"\r\n\"{A}\",\"Contoso, \"\"the\"\" School\"\r\n")),
        ["2: Contoso, \"the\" School, -, -, -"]
    );
    assert_eq!(read(format!("id,name,tags\n{A},École 学校,\n")), ["2: École 学校, -, -, -"]);
}

#[test]
fn a_line_is_named_by_the_number_that_an_editor_shows() {
    for end in ["\n", "\r\n"] {
        let file = ["id,name", A, "", &format!("{A},two"), ",", "x,y", "", &format!("{B},\"a{end}b\""), "z,\"\""];
        assert_eq!(
            read(file.join(end)),
            [
                "2! 1 cells where the first line has 2".to_owned(),
                "4: two, -, -, -".to_owned(),
                format!("6! \"x\" is not a tenant id, which is a GUID such as {A}"),
                "8! name goes over several lines; is a double quote missing?".to_owned(),
                format!("10! \"z\" is not a tenant id, which is a GUID such as {A}"),
            ],
            "{end:?}"
        );
    }
}

#[test]
fn a_line_that_is_wrong_says_all_that_is_wrong_with_it() {
    let long = "x".repeat(501);
    for (line, why) in [
        (format!("{A},Contoso, Inc.,,a;b c,"), "6 cells where the first line has 5: a cell that holds a comma"),
        (format!("{A},\u{1b}[31m,x,\"a, b\","), "name holds a control character; \"a, b\" is not a tag"),
        (format!(",{long},x,,"), "name is longer than 500 characters"),
        (",Contoso,,,".into(), "no tenant id"),
        ("contoso.example,,,,".into(), "\"contoso.example\" is not a tenant id"),
    ] {
        let rows = read(format!("id,name,domain,tags,contact\n{line}\n{B},,,,\n"));
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(rows[0].starts_with("2! ") && rows[0].contains(why), "{rows:?}");
        assert_eq!(rows[1], "3: -, -, -, -");
    }
    let latin = [format!("id,name\n{A},").as_bytes(), b"\xC9cole\n"].concat();
    assert_eq!(read(latin), ["2! name is not UTF-8; save the file as \"CSV UTF-8\""]);
}

#[test]
fn quotes_that_are_not_those_of_rfc_4180_are_wrong() {
    for (line, why) in [
        ("\"x", "the quote that opens a cell is never closed"),
        ("\"Con\"toso", "text follows the closing quote of a cell"),
        ("Con\"toso\"", "a quote stands inside a cell"),
        (" \"x\"", "a quote stands inside a cell"),
    ] {
        let rows = read(format!("id,name\n{A},{line}\n"));
        assert!(rows.len() == 1 && rows[0].starts_with("2! ") && rows[0].contains(why), "{line}: {rows:?}");
    }
    let rows = read(format!("id,name\n{A},\"x\n{B},y\n"));
    assert!(rows.len() == 1 && rows[0].starts_with("2! "), "{rows:?}");
    let good = format!("\u{feff}\"id\",\"name\"\r\n\r\n{A},\"Con \"\"toso\"\", Inc.\"\r\n\"{B}\",\"\"\r\n");
    assert_eq!(read(good), ["3: Con \"toso\", Inc., -, -, -", "4: -, -, -, -"]);
}

#[test]
fn a_first_line_that_is_wrong_says_how_it_should_be() {
    for (first, why) in [
        ("", "the file is empty"),
        ("id,nmae", "unknown column \"nmae\", did you mean name?"),
        ("Tenant ID", "unknown column \"Tenant ID\", did you mean id?; there is no column id"),
        (
            "id,primary_domain,tag",
            "\"primary_domain\", did you mean domain?; unknown column \"tag\", did you mean tags?",
        ),
        ("id,colour", "unknown column \"colour\"; the first line"),
        ("id,name,Name", "the column name is there twice"),
        ("id,,name", "the column 2 has no name"),
        ("name,domain", "there is no column id"),
        ("id;name;tags", "not by semicolons"),
        ("id\tname", "not by tabs"),
        (A, "a customer where the names of the columns belong"),
    ] {
        let rows = read(format!("{first}\n{A}\n").trim_start());
        let rows = if first.is_empty() { read("") } else { rows };
        assert!(rows.len() == 1 && rows[0].starts_with("1! ") && rows[0].contains(why), "{first:?}: {rows:?}");
    }
    assert!(read(b"\xFF\xFEi\0d\0\n\0")[0].contains("UTF-16"));
    assert!(read(b"PK\x03\x04\x14\0\x06\0\x08\0")[0].contains("an Excel workbook"));
    assert!(read("[{\"id\":\"1\",\"name\":\"x\"}]\n")[0].contains("the file is JSON"));
}

#[test]
fn a_tenant_id_is_taken_in_braces_and_without_hyphens() {
    let bare = A.replace('-', "");
    for id in [format!("{{{A}}}"), bare.clone(), format!("{{{}}}", A.to_uppercase()), bare.to_uppercase()] {
        let mut table = Table::open(format!("id\n{id}\n").into_bytes().leak() as &[u8]).unwrap();
        let row = table.next().unwrap().unwrap();
        assert!(row.customer.id.eq_ignore_ascii_case(A), "{id}: {}", row.customer.id);
    }
    for id in [format!("urn:uuid:{A}"), format!("{{{A}"), bare[1..].to_owned()] {
        assert!(read(format!("id\n{id}\n"))[0].contains("is not a tenant id"), "{id}");
    }
}

#[test]
fn what_excel_leaves_in_a_file_is_understood_or_named() {
    let good = [
        format!("sep=,\r\nid,name\r\n{A},Contoso\r\n"),
        format!("id,name,,\n{A},Contoso,,\n"),
        format!("id,name\n{A},Contoso,,,\n"),
    ];
    for file in good {
        let rows = read(file.clone());
        assert!(rows.len() == 1 && rows[0].ends_with(": Contoso, -, -, -"), "{file:?}: {rows:?}");
    }
    assert!(read(format!("sep=;\nid;name\n{A};x\n"))[0].contains("this line says \";\": save the file with commas"));
    assert!(read("sep=,\n")[0].contains("the file is empty"));
    assert!(read(format!("id,name\n{A},Contoso,x\n"))[0].contains("3 cells where the first line has 2"));
    let utf_16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> { "id,name\n".encode_utf16().flat_map(order).collect() };
    for file in [utf_16(u16::to_le_bytes), utf_16(u16::to_be_bytes)] {
        assert!(read(&file)[0].contains("the file is UTF-16"), "without a mark");
    }
}
