"""Reads a database of vetwatch as analysts do, while somebody writes: with pandas, Datasette and DuckDB.

    read_views.py DATABASE QUERIES.json METADATA NAME

QUERIES.json holds the example queries of docs/database.md; METADATA is Datasette's; NAME is a customer's that looks like HTML.
Prints one line for each view; fails on the first difference.
"""

import html.parser
import json
import pathlib
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import duckdb
import pandas

VIEWS = ["v_current", "v_transitions", "v_decisions", "v_deliveries", "v_customers"]
NUMBERS = {"attempt", "attempts", "events", "paused", "poll_failures", "hours_in_review", "transition_id"}

database, queries = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text())
metadata, hostile = sys.argv[3:]
uri = f"file:{database}?mode=ro"
db = sqlite3.connect(uri, uri=True)


def with_pandas():
    for view in VIEWS:
        frame = pandas.read_sql(f"select * from {view}", db)
        assert len(frame), view
        for column in NUMBERS & set(frame.columns):
            assert pandas.api.types.is_numeric_dtype(frame[column].dropna().infer_objects()), (view, column, frame[column])
    for query in queries:
        assert len(pandas.read_sql(query, db)), query


class Page(html.parser.HTMLParser):
    """The texts that a page shows, each heading, paragraph and cell for itself; and what is in its scripts."""

    BLOCKS = {"h1", "div", "li", "dt", "dd", "td", "script"}

    def __init__(self, page):
        super().__init__()
        self.texts, self.scripts, self.tag = [""], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tag = tag
        if tag in self.BLOCKS:
            self.texts.append("")

    def handle_endtag(self, tag):
        self.handle_starttag(tag, [])
        self.tag = ""

    def handle_data(self, data):
        if self.tag == "script":
            self.scripts += data
        else:
            self.texts[-1] += data

    def shows(self, text):
        return any(text == shown.strip() for shown in self.texts)


def with_datasette():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = pathlib.Path(database).stem
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "datasette", database, "--metadata", metadata, "--port", str(port),
             "--setting", "sql_time_limit_ms", "20000"],
            stdout=log, stderr=log)

        def read(path, **arguments):
            url = f"http://127.0.0.1:{port}/{path}?{urllib.parse.urlencode(arguments)}"
            with urllib.request.urlopen(url, timeout=30) as reply:
                return reply.read().decode()

        def fetch(path, **arguments):
            return json.loads(read(path, _shape="objects", **arguments))["rows"]

        try:
            # It listens once the port takes a connection.
            while True:
                assert server.poll() is None, "Datasette ended"
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            for view in VIEWS:
                rows = fetch(f"{name}/{view}.json")
                assert rows, view
                for row in rows:
                    for column in NUMBERS & set(row):
                        assert row[column] is None or isinstance(row[column], (int, float)), (view, column, row)
            for query in queries:
                # A trailing semicolon is not a query of Datasette's.
                assert fetch(f"{name}.json", sql=query.strip().rstrip(";")), query

            listed = json.loads(read(f"{name}.json"))
            shown = [table["name"] for table in listed["tables"] if not table["hidden"]]
            assert not shown and sorted(view["name"] for view in listed["views"]) == sorted(VIEWS), (shown, listed["views"])
            canned = {query["sql"].strip(): query for query in listed["queries"]}
            assert set(canned) == {query.strip().rstrip(";") for query in queries}, canned
            front = Page(read(name))
            for query in canned.values():
                assert query["title"].endswith("?") and front.shows(query["title"]), query
                assert fetch(f"{name}/{query['name']}.json"), query
                assert Page(read(f"{name}/{query['name']}")).shows(query["title"]), query

            said = json.loads(read("-/metadata.json"))["databases"][name]["tables"]
            for view in VIEWS:
                page = Page(read(f"{name}/{view}"))
                for text in [said[view]["description"], f"{said[view]['title']} (view)", *said[view]["columns"].values()]:
                    assert page.shows(text), (view, text)
            for place in ["v_customers", "v_current", "v_transitions", "v_decisions", "what-changed-last"]:
                page = Page(read(f"{name}/{place}"))
                assert page.shows(hostile) and "alert(" not in page.scripts, place
        except urllib.error.HTTPError as error:
            sys.exit(f"Datasette: {error}: {error.read().decode()[:500]}")
        finally:
            server.terminate()
            server.wait()


# What DuckDB spells otherwise. Its own extension for SQLite leaves these to SQLite.
TRANSLATED = [
    (r"strftime\('%Y-%m-%dT%H:%M:%fZ', ", "iso_8601("),
    (r" / 1000\.0, 'unixepoch'\)", ")"),
    (r"json_each\(c\.tags\)", "(select unnest(cast(c.tags as varchar[])) as value)"),
]
MACRO = "create macro iso_8601(ms) as strftime(make_timestamp(ms * 1000), '%Y-%m-%dT%H:%M:%S.%gZ')"


def with_duckdb():
    duck = duckdb.connect()
    duck.execute(MACRO)
    kept = sqlite3.connect(":memory:")
    db.backup(kept)  # the same rows for both, whatever is written meanwhile
    tables = kept.execute("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'").fetchall()
    for (table,) in tables:
        columns = [(name, kind) for _, name, kind, *_ in kept.execute(f"pragma table_info({table})")]
        kinds = {"INTEGER": "bigint", "TEXT": "varchar", "REAL": "double", "BLOB": "blob"}
        shape = ", ".join(f'"{name}" {kinds.get(kind.upper(), "varchar")}' for name, kind in columns)
        duck.execute(f'create table "{table}" ({shape})')
        rows = kept.execute(f'select * from "{table}"').fetchall()
        if rows:
            duck.executemany(f'insert into "{table}" values ({", ".join("?" * len(columns))})', rows)
    for view in VIEWS:
        (sql,) = kept.execute("select sql from sqlite_schema where name = ?", [view]).fetchone()
        assert "count(*)" not in sql, f"{view}: DuckDB's extension cannot read count(*) in a view"
        for pattern, replacement in TRANSLATED:
            sql = re.sub(pattern, replacement, sql)
        duck.execute(sql)
        seen = duck.execute(f"select * from {view}")
        types = {column[0]: str(column[1]) for column in seen.description}
        ours = kept.execute(f"select * from {view}").fetchall()
        theirs = seen.fetchall()
        text = lambda rows: sorted(tuple("" if cell is None else str(cell) for cell in row) for row in rows)
        assert ours and text(ours) == text(theirs), (view, text(ours)[:2], text(theirs)[:2])
        for column in NUMBERS & set(types):
            assert types[column].upper() in {"BIGINT", "INTEGER", "DOUBLE"}, (view, column, types)
        print(f"{view}: {len(ours)} rows")


with_pandas()
with_duckdb()
with_datasette()
