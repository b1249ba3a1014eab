"""Reads the two feeds as programs that subscribe do, and prints what they show as JSON.

    read_feeds.py ATOM-URL CALENDAR-URL

Fails if a parser finds fault with one, or if an answer that is known already is sent again.
"""

import json
import sys
import urllib.error
import urllib.request

import feedparser
import icalendar


def get(url: str, known: str | None = None) -> tuple[int, str, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers={"If-None-Match": known} if known else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            kind = {"content-type": answer.headers["Content-Type"], "content-location": url}
            return answer.status, answer.headers["ETag"], kind, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers["ETag"], {}, b""


kinds, bodies = [], []
for url in sys.argv[1:3]:
    status, tag, kind, body = get(url)
    assert status == 200, (url, status)
    assert get(url, tag)[0] == 304 and get(url, '"other", W/' + tag)[0] == 304 and get(url, '"other"')[0] == 200, url
    kinds.append(kind)
    bodies.append(body)

feed = feedparser.parse(bodies[0], response_headers=kinds[0])
assert not feed.bozo, feed.bozo_exception
assert feed.feed.id and feed.feed.updated_parsed and feed.feed.title, feed.feed
entries = [
    {"id": e.id, "title": e.title, "link": e.link, "updated": bool(e.updated_parsed), "text": e.content[0].value}
    for e in feed.entries
]

assert kinds[1]["content-type"].startswith("text/calendar"), kinds
calendar = icalendar.Calendar.from_ical(bodies[1])
assert calendar["VERSION"] == "2.0" and not calendar.errors, calendar.errors
assert max(map(len, bodies[1].split(b"\r\n"))) <= 75, "a line is too long"
events = []
for event in calendar.walk("VEVENT"):
    assert not event.errors, event.errors
    events.append({
        "uid": str(event["UID"]),
        "day": event.decoded("DTSTART").isoformat(),
        "sequence": int(event["SEQUENCE"]),
        "summary": str(event["SUMMARY"]),
        "description": str(event["DESCRIPTION"]),
    })
print(json.dumps({"entries": entries, "events": events}))
