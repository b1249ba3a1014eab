/*
 * The delivery protocol: poll, record, enqueue, claim, send, finish; retry, expire, crash, restart. protocol.md beside this
 * file says what is modelled and what is not. `tests/campaign protocol` checks that the model holds, and that each mutant (an
 * #if below) does not.
 *
 * One customer with one qualification. Its reviews are 1 to REVIEWS, and review n ends with verdict n. A set of verdicts is
 * a set of bits. Each `atomic` or `d_step` is one step; one that writes to the database is one write transaction.
 */

#ifndef REVIEWS
#define REVIEWS 2
#endif
#ifndef ENDPOINTS
#define ENDPOINTS 1
#endif
#ifndef POLLS
#define POLLS 2 /* of the customer, in flight at once */
#endif
#ifndef TROUBLES
#define TROUBLES 1 /* crashes, killed commands, failed polls, failed attempts, verdicts not shown for a while: all together */
#endif
#define TRIES 2 /* failed attempts until a delivery expires */

#define BIT(verdict) (1 << ((verdict) - 1))
#define REVIEW(entry) (((entry) + 1) / 2)
#define IS_VERDICT(entry) ((entry) > 0 && (entry) % 2 == 0)

/* --- Partner Center --- */

byte shown = 1; /* 2n - 1: review n is open; 2n: it is decided */
byte now; /* counts the changes: the only clock */
byte happened; /* the verdicts that were shown */
bool stopped; /* what is shown, stays */
byte troubles = TROUBLES; /* still to come */

active proctype PartnerCenter() {
progress:
    do
    :: d_step { !IS_VERDICT(shown) -> shown++; now++; happened = happened | BIT(REVIEW(shown)) }
    :: d_step { IS_VERDICT(shown) && shown < 2 * REVIEWS -> shown++; now++ }
    :: d_step { IS_VERDICT(shown) && troubles > 0 -> troubles--; shown--; now++ }
    :: stopped = true; break
    od
}

/* --- The database, which survives a crash --- */

/* The customer: src/store/vetting.rs. */
byte entry = 1; /* as Partner Center showed it; the baseline is recorded */
byte review = 1; /* the current attempt */
byte last_notified; /* a verdict, or 0 */
byte requested_at; /* when the recorded response was requested */
byte recorded; /* the verdicts that have an event */

/* A delivery: src/store/outbox.rs. Its first verdict gives it its place. */
typedef Delivery {
    byte events; /* the verdicts that it tells. Its id is the hash of these: crates/core/src/ids.rs */
    byte message; /* its text: the verdicts that it names; 0 before the first attempt */
    byte failures; /* the position in the retry schedule */
    bool pending;
    bool open /* an attempt is open; otherwise it is due */
};
typedef Endpoint {
    Delivery delivery[REVIEWS];
    byte dead /* the verdicts in dead deliveries: `status` shows them, and the operators are told */
};
Endpoint endpoint[ENDPOINTS];

/* --- In memory: lost in a crash --- */

typedef InFlight {
    bool requested;
    byte began;
    byte answer; /* an entry; 0 before the response */
    byte read; /* when Partner Center read it */
    byte news; /* the verdict to tell, or 0 */
    bool half /* only in mutants: recorded by half */
};
InFlight poll[POLLS];

mtype = { NONE, SENDING, ACCEPTED, FAILED };
typedef Tasks { mtype attempt[REVIEWS] /* at each delivery */ };
Tasks task[ENDPOINTS];

/* --- The receivers, observed from outside --- */

typedef Inbox {
    byte got; /* verdicts */
    byte under[REVIEWS]; /* the id under which each verdict arrived */
    bool sent[REVIEWS]; /* each delivery was sent, and nothing excuses sending it again */
    byte failed[REVIEWS] /* how many attempts failed */
};
Inbox inbox[ENDPOINTS];

/* --- Crash and restart --- */

inline interrupt(e, i) {
    inbox[e].sent[i] = inbox[e].sent[i] && task[e].attempt[i] == NONE;
    task[e].attempt[i] = NONE
}

inline forget(i) {
    poll[i].requested = false; poll[i].began = 0; poll[i].answer = 0; poll[i].read = 0;
    poll[i].news = 0; poll[i].half = false
}

/* One step: what others do between the two, they could as well do just after the restart. */
active proctype CrashAndRestart() {
    byte e, i;
    do
    :: break
    :: d_step { troubles > 0 ->
            troubles--;
            for (i : 0 .. POLLS - 1) { forget(i) }
            for (e : 0 .. ENDPOINTS - 1) {
                for (i : 0 .. REVIEWS - 1) {
                    interrupt(e, i);
                    /* recover_deliveries in src/store/recovery.rs */
#ifdef INTERRUPTION_COSTS_A_TRY
                    endpoint[e].delivery[i].failures = endpoint[e].delivery[i].failures + endpoint[e].delivery[i].open;
#endif
#ifndef RESTART_RECOVERS_NOTHING
                    endpoint[e].delivery[i].open = false
#endif
                }
            }
            e = 0; i = 0
        }
    od
}

/* --- Poll and record: src/poller/flight.rs, src/poller/answers.rs, src/recording.rs --- */

#define it poll[i]

/* `compare` in crates/core/src/changes.rs. */
#ifdef OLDER_VERDICT_IS_TAKEN
#define is_held() false
#else
#define is_held() (IS_VERDICT(it.answer) && REVIEW(it.answer) < review) /* until the third look */
#endif
#ifdef VERDICT_IS_COMPARED_WITH_ENTRY
#define is_news() IS_VERDICT(it.answer) /* it is not the entry */
#else
#define is_news() (IS_VERDICT(it.answer) && REVIEW(it.answer) != last_notified)
#endif
/* Recorder::record in src/recording.rs. */
#ifdef OLDER_RESPONSE_IS_RECORDED
#define is_stale() false
#else
#define is_stale() (it.began < requested_at)
#endif

inline save_state() {
    entry = it.answer;
    review = (REVIEW(entry) > review -> REVIEW(entry) : review);
    last_notified = (it.news > 0 -> it.news : last_notified)
}

inline save_event() {
    if
    :: it.news > 0 ->
        assert((recorded & BIT(it.news)) == 0); /* no verdict has two events */
        recorded = recorded | BIT(it.news);
        e = 0;
        do
        :: e < ENDPOINTS -> enqueue(e, it.news); e++
        :: else -> e = 0; break
        od
    :: else
    fi
}

/* An event joins a delivery that waits for its group, or begins one: src/store/enqueue.rs. */
#ifdef EVENT_JOINS_AN_ATTEMPTED_DELIVERY
#define may_join(it) it.pending
#else
#define may_join(it) (it.pending && it.message == 0)
#endif

inline enqueue(e, verdict) {
    if
    :: verdict > 1 && may_join(endpoint[e].delivery[0]) ->
        endpoint[e].delivery[0].events = endpoint[e].delivery[0].events | BIT(verdict)
    :: endpoint[e].delivery[verdict - 1].events = BIT(verdict);
        endpoint[e].delivery[verdict - 1].pending = true
    fi
}

#define is_next(i) (!poll[i].requested && (i == 0 || poll[i - 1].requested)) /* they are alike: begin with the first */

proctype Poll(byte i) {
    byte e;
end:
    do
    /* Polls that cannot see anything new are left out once Partner Center rests. */
    :: d_step { is_next(i) && (!stopped || requested_at < now) -> it.requested = true; it.began = now }
    :: d_step { it.requested && it.answer == 0 -> it.answer = shown; it.read = now }
    :: d_step { it.requested && it.answer == 0 && troubles > 0 ->
            troubles--;
#ifdef ERROR_IS_A_DENIAL
            it.answer = 2 * REVIEW(entry); it.read = now
#else
            forget(i)
#endif
        }
    :: atomic { it.answer > 0 && !it.half ->
            if
            :: is_stale() -> forget(i)
            :: else ->
                assert(it.read >= requested_at); /* no response replaces a newer one */
                requested_at = it.began;
                if
                :: it.answer == entry || is_held() -> forget(i)
                :: else ->
                    it.news = (is_news() -> REVIEW(it.answer) : 0);
#if defined(STATE_IS_COMMITTED_FIRST)
                    save_state(); it.half = true
#elif defined(EVENT_IS_COMMITTED_FIRST)
                    save_event(); it.half = true
#else
                    save_state(); save_event(); forget(i)
#endif
                fi
            fi
        }
#if defined(STATE_IS_COMMITTED_FIRST)
    :: atomic { it.half -> save_event(); forget(i) }
#elif defined(EVENT_IS_COMMITTED_FIRST)
    :: atomic { it.half -> save_state(); forget(i) }
#endif
    od
}

/* --- Claim, send, finish: src/store/outbox.rs, src/delivery/dispatcher.rs, src/delivery/sender.rs --- */

#define row endpoint[e].delivery[d]
#define attempt_at task[e].attempt[d]
#define received inbox[e]

#ifdef LEASE_ENDS_DURING_AN_ATTEMPT
#define lease_ends() row.open
#else
#define lease_ends() (row.open && attempt_at == NONE) /* LEASE is longer than any attempt */
#endif
#ifdef ID_IS_MADE_AT_SEND
#define id() (64 + received.failed[d])
#else
#define id() row.events
#endif

inline arrives() {
    assert((row.message & ~happened) == 0); /* nothing is told that Partner Center did not show */
    for (v : 0 .. REVIEWS - 1) {
        if
        :: row.message & (1 << v) ->
            assert(received.under[v] == 0 || received.under[v] == id()); /* no verdict is told under two ids */
            received.under[v] = id()
        :: else
        fi
    }
    v = 0;
    assert(!received.sent[d]); /* no message is sent again without a cause */
    received.sent[d] = true;
    received.got = received.got | row.message
}

inline fails() {
    troubles--;
    received.failed[d]++;
    received.sent[d] = false;
#ifdef FAILURE_COUNTS_AS_DELIVERED
    attempt_at = ACCEPTED
#else
    attempt_at = FAILED
#endif
}

/* Everything at the delivery d: attempts at several are in flight at once. */
proctype Deliver(byte e, d) {
    byte v;
end:
    do
    /* Claim. From now on nothing joins it: claim in src/store/outbox.rs. */
    :: d_step { row.pending && !row.open -> row.open = true; row.message = row.events; attempt_at = SENDING;
#ifdef FINISHED_BEFORE_SENT
            row.pending = false
#endif
        }
    /* Send. */
    :: d_step { attempt_at == SENDING -> arrives(); attempt_at = ACCEPTED }
    :: d_step { attempt_at == SENDING && troubles > 0 -> fails() }
    :: d_step { attempt_at == SENDING && troubles > 0 -> arrives(); fails() } /* the reply is lost */
    /* Finish: Sender::try_finish in src/delivery/sender.rs, RetryPolicy::next in crates/core/src/retry.rs. */
    :: d_step { attempt_at == ACCEPTED -> row.pending = false; row.open = false; attempt_at = NONE }
    :: d_step { attempt_at == FAILED ->
            row.open = false; attempt_at = NONE;
            row.failures++;
            if
            :: row.failures >= TRIES ->
                row.pending = false;
                assert(received.failed[d] >= TRIES); /* no message expires because vetwatch died */
#ifndef EXPIRES_WITHOUT_A_TRACE
                endpoint[e].dead = endpoint[e].dead | row.events
#endif
            :: else
            fi
        }
    /* `vetwatch test-send` makes its attempt itself. If it is killed, no restart follows. */
    :: d_step { troubles > 0 && attempt_at != NONE -> troubles--; interrupt(e, d) }
#ifndef CLAIM_IS_NO_LEASE
    :: d_step { lease_ends() -> row.open = false }
#endif
    od
}

init {
    byte i, e;
    atomic {
        for (i : 0 .. POLLS - 1) { run Poll(i) }
        for (e : 0 .. ENDPOINTS - 1) { for (i : 0 .. REVIEWS - 1) { run Deliver(e, i) } }
    }
}

/* --- Nothing is lost --- */

#define told(e) ((recorded & ~(inbox[e].got | endpoint[e].dead)) == 0)

/* When nothing more can happen. Only while Partner Center may still change does anything go on for ever: see `progress`. */
active proctype End() {
    byte e;
    timeout ->
        assert(!IS_VERDICT(shown) || (recorded & BIT(REVIEW(shown)))); /* every verdict that stays is recorded */
        do
        :: e < ENDPOINTS ->
            assert(told(e)); /* every recorded verdict is delivered, or dead and visible */
            e++
        :: else -> break
        od
}
