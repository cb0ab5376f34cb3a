package model

import (
	"strings"
	"testing"

	search "github.com/conclavehq/conclave/internal/waitqueue/model"
)

func TestMeetingsHold(t *testing.T) {
	for _, c := range []struct {
		name   string
		effort effort
		cfg    Config
	}{
		{"double, 2 of 2; lost reply, cancel", always, Config{Arrivals: each(0, 1), Parties: 2, Faults: Faults{LoseReply: 1, Cancel: 1}}},
		{"double, 2 of 2; 2 lost replies, cancel, expiry", usual, Config{Arrivals: each(0, 1), Parties: 2,
			Faults: Faults{LoseReply: 2, Cancel: 1, Expire: 1}}},
		{"double, 2 of 2; expiry, crash, ticket deleted by hand", always, Config{Arrivals: each(0, 1), Parties: 2,
			Faults: Faults{Expire: 1, Crash: 1, DropTicket: 1}}},
		{"double, 3 come for 2", always, Config{Arrivals: each(0, 1, 2), Parties: 2}},
		{"double, 3 come for 2; lost reply, cancel", usual, Config{Arrivals: each(0, 1, 2), Parties: 2, Faults: Faults{LoseReply: 1, Cancel: 1}}},
		{"double, 3 come for 2; expiry, cancel", soak, Config{Arrivals: each(0, 1, 2), Parties: 2, Faults: Faults{Expire: 1, Cancel: 1}}},
		{"double, 3 come for 2; crash, ticket deleted by hand, missed events", soak, Config{Arrivals: each(0, 1, 2), Parties: 2,
			Faults: Faults{Crash: 1, DropTicket: 1, LoseWatch: 1}}},
		{"double, 3 of 3; expiry, lost reply", usual, Config{Arrivals: each(0, 1, 2), Parties: 3, Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"double, 2 come twice; lost reply, expiry, ticket deleted by hand", usual, Config{Arrivals: twice(), Parties: 2,
			Faults: Faults{LoseReply: 1, Expire: 1, DropTicket: 1}}},
		{"double, 2 come twice; cancel, crash, missed events", usual, Config{Arrivals: twice(), Parties: 2,
			Faults: Faults{Cancel: 1, Crash: 1, LoseWatch: 1}}},
		{"double, breaks, 3 of 3; 2 expiries", always, Config{Arrivals: each(0, 1, 2), Parties: 3, Breaks: true, Faults: Faults{Expire: 2}}},
		{"double, breaks, 3 come for 2; crash, lost reply", usual, Config{Arrivals: each(0, 1, 2), Parties: 2, Breaks: true,
			Faults: Faults{Crash: 1, LoseReply: 1}}},
		{"double, breaks, 3 of 3; expiry, cancel, ticket deleted by hand", soak, Config{Arrivals: each(0, 1, 2), Parties: 3, Breaks: true,
			Faults: Faults{Expire: 1, Cancel: 1, DropTicket: 1}}},
		{"double, breaks, 4 come for 3; crash", soak, Config{Arrivals: each(0, 1, 2, 3), Parties: 3, Breaks: true, Faults: Faults{Crash: 1}}},
		{"cyclic, 2 of 2; 2 lost replies, cancel, expiry", usual, Config{Arrivals: each(0, 1), Parties: 2, Cyclic: true,
			Faults: Faults{LoseReply: 2, Cancel: 1, Expire: 1}}},
		{"cyclic, 3 come for 2; lost reply, cancel", usual, Config{Arrivals: each(0, 1, 2), Parties: 2, Cyclic: true,
			Faults: Faults{LoseReply: 1, Cancel: 1}}},
		{"cyclic, 3 come for 2; expiry, lost reply", usual, Config{Arrivals: each(0, 1, 2), Parties: 2, Cyclic: true,
			Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"cyclic, 3 of 3; crash, lost reply", always, Config{Arrivals: each(0, 1, 2), Parties: 3, Cyclic: true, Faults: Faults{Crash: 1, LoseReply: 1}}},
		{"cyclic, 3 of 3; expiry, cancel, ticket deleted by hand", soak, Config{Arrivals: each(0, 1, 2), Parties: 3, Cyclic: true,
			Faults: Faults{Expire: 1, Cancel: 1, DropTicket: 1}}},
		{"cyclic, 2 come twice; lost reply, cancel, missed events", usual, Config{Arrivals: twice(), Parties: 2, Cyclic: true,
			Faults: Faults{LoseReply: 1, Cancel: 1, LoseWatch: 1}}},
		{"cyclic, 2 come twice; crash, ticket deleted by hand", always, Config{Arrivals: twice(), Parties: 2, Cyclic: true,
			Faults: Faults{Crash: 1, DropTicket: 1}}},
		{"cyclic, 4 come for 2; cancel", soak, Config{Arrivals: each(0, 1, 2, 3), Parties: 2, Cyclic: true, Faults: Faults{Cancel: 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.effort.skip(t)
			mustHold(t, c.name, search.Search(NewMeeting(c.cfg), bound))
		})
	}
}

// TestEveryGuardIsNeeded takes one guard or step out of the protocol at a time.
func TestEveryGuardIsNeeded(t *testing.T) {
	two, three := each(0, 1), each(0, 1, 2)
	for _, c := range []struct {
		name   string
		defect Defect
		harm   string
		cfg    Config
	}{
		{"B1 the mark does not compare left", ReadyIgnoresLeft, "told that it is not", Config{Arrivals: two, Parties: 2, Faults: Faults{Cancel: 1}}},
		{"B2 the mark does not compare the state", ReadyIgnoresState, "ready twice", Config{Arrivals: three, Parties: 2, Faults: Faults{LoseReply: 1}}},
		{"B3 a cancel does not compare the state", CancelIgnoresReady, "told that it is not", Config{Arrivals: two, Parties: 2, Faults: Faults{Cancel: 1}}},
		{"B4 a cancel leaves no void record", CancelKeepsNoVoid, "for an arrival that is over", Config{Arrivals: two, Parties: 2, Faults: Faults{Cancel: 1}}},
		{"B5 a join does not compare the state", JoinIgnoresState, "for an arrival that is over", Config{Arrivals: two, Parties: 2, Cyclic: true,
			Faults: Faults{LoseReply: 1}}},
		{"B6 a generation ends although tickets stand", OverIgnoresTickets, "left before the others", Config{Arrivals: two, Parties: 2}},
		{"B7 nobody ends a generation whose last member died", NobodyLooksForOver, "is stuck", Config{Arrivals: two, Parties: 2, Faults: Faults{Expire: 1}}},
		{"B8 the first looks at nobody", FirstLooksAtNobody, "nobody notices the loss", Config{Arrivals: three, Parties: 3, Breaks: true,
			Faults: Faults{Expire: 1}}},
		{"B9 a break does not compare the ticket", BreakIgnoresTicket, "named as lost, and was not", Config{Arrivals: three, Parties: 3, Breaks: true}},
		{"B10 a cancel keeps the party", CancelKeepsParty, "named as lost, and was not", Config{Arrivals: three, Parties: 3, Breaks: true, Faults: Faults{Cancel: 1}}},
		{"B11 nobody looks for its own ticket", NobodyLooksForItself, "waits without a ticket", Config{Arrivals: two, Parties: 2, Faults: Faults{DropTicket: 1}}},
		{"B12 who is not listed enters", ExtraEnters, "is no member", Config{Arrivals: three, Parties: 2}},
		{"B13 who is not listed does not help", ExtraDoesNotHelp, "all are here", Config{Arrivals: three, Parties: 2, Cyclic: true, Faults: Faults{Cancel: 1}}},
		{"B14 a refused mark is not tried again", ReadyReplyIsFinal, "all are here", Config{Arrivals: three, Parties: 2, Cyclic: true, Faults: Faults{Cancel: 1}}},
		{"B15 no list of the members is kept", ListIsNotKept, "member of two generations", Config{Arrivals: three, Parties: 2, Cyclic: true,
			Faults: Faults{LoseReply: 1}}},
		{"B16 who finds its ticket gone leaves no void record", DeletedKeepsNoVoid, "for an arrival that is over", Config{Arrivals: two, Parties: 2,
			Faults: Faults{DropTicket: 1, LoseReply: 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			right := search.Search(NewMeeting(c.cfg), bound)
			if right.Violation != "" || right.Cut {
				t.Fatalf("the configuration is wrong without the defect: %s", right)
			}
			wrong := c.cfg
			wrong.Defect = c.defect
			r := search.Search(NewMeeting(wrong), bound)
			if !strings.Contains(r.Violation, c.harm) {
				t.Fatalf("want a violation with %q, got: %s", c.harm, r)
			}
			t.Logf("%d steps: %s", len(r.Trace), r.Violation)
		})
	}
}
