package model

import (
	"strings"
	"testing"
)

// mustFind fails unless the search finds the harm that a missing guard does, and finds none with the guard in place.
func mustFind(t *testing.T, harm string, right, wrong Result) {
	t.Helper()
	if right.Violation != "" || right.Cut {
		t.Fatalf("the configuration is wrong without the defect: %s", right)
	}
	if !strings.Contains(wrong.Violation, harm) {
		t.Fatalf("want a violation with %q, got: %s", harm, wrong)
	}
	t.Logf("%d steps: %s", len(wrong.Trace), wrong.Violation)
}

type defectCase struct {
	name   string
	size   size
	defect Defect
	harm   string
	cfg    Config
}

func findAll(t *testing.T, cases []defectCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.size.skip(t)
			var right Result
			if c.size == small || soaking() { // the defect ends a search early, its absence does not
				right = Search(NewLine(c.cfg), bound)
			}
			wrong := c.cfg
			wrong.Defect = c.defect
			mustFind(t, c.harm, right, Search(NewLine(wrong), bound))
		})
	}
}

const (
	finished  = "finished acquisition"
	believes  = "believes to own"
	stuck     = "is stuck"
	leftOver  = "is left over"
	overtakes = "overtook"
	silent    = "no event says so"
)

// TestDocumentedDefects looks for C1 to C13 of docs/protocol.md.
func TestDocumentedDefects(t *testing.T) {
	two, three := all(writer(0), writer(1)), all(writer(0), writer(1), writer(2))
	urgentThree := all(writer(0), writer(1), urgent(writer(2), 1))
	findAll(t, []defectCase{
		{"C1 a deleted ticket reads as granted", small, DeleteMeansGranted, believes, Config{
			Acquirers: two, Faults: Faults{DropTicket: 1}}},
		{"C2 no void record, cancelled", small, NoVoidRecord, finished, Config{Acquirers: two, Faults: Faults{Cancel: 1}}},
		{"C2 no void record, TryLock", small, NoVoidRecord, finished, Config{
			Acquirers: all(tries(writer(0)), writer(1)), Faults: Faults{LoseReply: 1}}},
		{"C3 no void record at the release", small, NoVoidRecord, finished, Config{
			Acquirers: two, Faults: Faults{LoseReply: 1}}},
		{"C4 own watch after the ticket", small, OwnWatchAfterTicket, silent, Config{Acquirers: two}},
		{"C4 own watch after the look", small, LookBeforeOwnWatch, silent, Config{
			Acquirers: two, Faults: Faults{LoseWatch: 1}}},
		{"C5 blocker watched from now", small, BlockerFromNow, stuck, Config{Acquirers: two, Faults: Faults{Expire: 1}}},
		{"C6 cancel without a guard", small, CancelUnguarded, leftOver, Config{Acquirers: two, Faults: Faults{Cancel: 1}}},
		{"C7 release by session", small, ReleaseBySession, believes, Config{
			Acquirers: all(writer(0), after(writer(0), 1), writer(1)), Faults: Faults{LoseReply: 1}}},
		{"C8a handover ignores a more urgent ticket", small, PassIgnoresUrgent, overtakes, Config{Acquirers: urgentThree}},
		{"C8b claim ignores the grant", small, ClaimIgnoresGrant, believes, Config{
			Acquirers: urgentThree, Faults: Faults{Expire: 1}}},
		{"C8c free path ignores the line", small, TryIgnoresLine, overtakes, Config{
			Acquirers: three, Faults: Faults{Expire: 1}}},
		{"C10 permits taken on an old view", small, PermitsClaimIgnoresHolds, "more permits", Config{
			Acquirers: all(permits(0, 1, 3), permits(1, 2, 3), permits(2, 2, 3))}},
		{"C11 nobody watches the permits", small, PermitsIgnoreHoldEvents, stuck, Config{
			Acquirers: all(permits(0, 1, 2), permits(1, 1, 2), permits(2, 2, 2))}},
		{"C12 the predecessor's grant wakes nobody", small, PermitsIgnorePredecessorsGrant, "nobody acts", Config{
			Acquirers: all(permits(0, 2, 2), permits(1, 1, 2), permits(2, 1, 2)), Holds: true}},
		{"C13 downgrade keeps the writer's ticket", small, DowngradeKeepsTicket, "nobody acts", Config{
			Acquirers: all(writer(0), lowers(writer(1)), reader(2)), Holds: true}},
	})
}

func TestWaitingDefects(t *testing.T) {
	two := all(writer(0), writer(1))
	findAll(t, []defectCase{
		{"nobody looks at the line", small, NoLook, stuck, Config{Acquirers: two, Faults: Faults{Expire: 1}}},
		{"nobody watches the blocker", small, NoBlockerWatch, stuck, Config{Acquirers: two, Faults: Faults{Expire: 1}}},
		{"Enter puts a ticket twice", small, EnterOverwritesTicket, believes, Config{
			Acquirers: two, Faults: Faults{LoseReply: 1}}},
		{"Pass leaves the ticket of a lost grant", small, PassKeepsTicketOfLostGrant, leftOver, Config{
			Acquirers: two, Faults: Faults{DropGrant: 1}}},
		{"an owner that lost its grant does not ask for a second one", small, LostOwnerDoesNotAsk, leftOver, Config{
			Acquirers: two, Faults: Faults{LoseReply: 1, Force: 1}}},
	})
}

func TestLocalLineDefects(t *testing.T) {
	three := all(writer(0), writer(0), writer(1))
	findAll(t, []defectCase{
		{"Pass puts the next ticket without the void guard", small, NextWithoutVoidGuard, finished, Config{
			Acquirers: three, LocalLine: true, Impatient: true, Faults: Faults{Cancel: 1}}},
		{"a given up Pass puts the next ticket a second time", small, NextOverwritesTicket, believes, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{GiveUpPass: 1}}},
		{"a given up Pass grants to a cancelled next", small, NextWithoutVoidGuard, finished, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{GiveUpPass: 1, Cancel: 1}}},
		{"Pass puts the next ticket before its watch", small, NextWithoutWatch, silent, Config{
			Acquirers: three, LocalLine: true}},
	})
}

func TestLockDelayDefects(t *testing.T) {
	two := all(delays(writer(0)), writer(1))
	findAll(t, []defectCase{
		{"the free path ignores the shadow", small, TakeIgnoresShadow, "lock delay", Config{
			Acquirers: two, Faults: Faults{Expire: 1}}},
		{"a claim ignores the shadow", small, ClaimIgnoresShadow, "lock delay", Config{
			Acquirers: two, Faults: Faults{Expire: 1}}},
		{"nobody watches the shadow", small, ShadowNotWatched, stuck, Config{Acquirers: two, Faults: Faults{Expire: 1}}},
		{"Pass leaves the shadow of a lost grant", small, LostGrantKeepsShadow, leftOver, Config{
			Acquirers: two, Faults: Faults{DropGrant: 1}}},
		{"a forced release leaves the shadow", small, ForcedKeepsShadow, leftOver, Config{
			Acquirers: two, Faults: Faults{Force: 1}}},
	})
}

func TestSharingDefects(t *testing.T) {
	findAll(t, []defectCase{
		{"batch of readers ignores a more urgent ticket", small, BatchIgnoresUrgent, overtakes, Config{
			Acquirers: all(writer(0), reader(1), urgent(writer(2), 1))}},
		{"batch of readers crosses buckets", medium, BatchCrossesBuckets, overtakes, Config{
			Acquirers: all(writer(0), urgent(reader(1), 1), reader(2), urgent(writer(3), 1))}},
		{"claim by a reader ignores a newer, more urgent ticket", small, ReaderClaimIgnoresUrgent, overtakes, Config{
			Acquirers: all(writer(0), reader(1), urgent(writer(2), 1)), Faults: Faults{Expire: 1}}},
		{"a reader takes what it has", small, ReaderTakesAgain, believes, Config{
			Acquirers: all(reader(0), reader(1)), Faults: Faults{LoseReply: 1}}},
		{"a holder of permits takes what it has", small, ReaderTakesAgain, believes, Config{
			Acquirers: all(permits(0, 1, 3), permits(1, 1, 3)), Faults: Faults{LoseReply: 2}}},
		{"a reader hands over beside readers", small, ReaderPassesBesideReaders, "beside readers", Config{
			Acquirers: all(reader(0), reader(1), writer(2))}},
		{"a writer ignores readers", small, WriterIgnoresReaders, "beside readers", Config{
			Acquirers: all(reader(0), writer(1))}},
	})
}

func TestPermitsDefects(t *testing.T) {
	findAll(t, []defectCase{
		{"batch of permits ignores a more urgent ticket", small, BatchIgnoresUrgent, overtakes, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1), urgent(permits(2, 1, 1), 1))}},
		{"batch of permits crosses buckets", medium, BatchCrossesBuckets, overtakes, Config{
			Acquirers: all(permits(0, 2, 2), urgent(permits(1, 1, 2), 1), permits(2, 1, 2), urgent(permits(3, 1, 2), 1))}},
		{"batch of permits passes over a large request", small, BatchSkipsTooLarge, overtakes, Config{
			Acquirers: all(permits(0, 1, 2), permits(1, 2, 2), permits(2, 1, 2))}},
		{"claim of permits ignores a more urgent ticket", small, PermitsClaimIgnoresUrgent, overtakes, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1), urgent(permits(2, 1, 1), 1)), Faults: Faults{Expire: 1}}},
		{"stale limit replaced with tickets in line", small, StaleLimitIgnoresLine, overtakes, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1), writer(2)), Faults: Faults{Expire: 1}}},
		{"a writer ignores the limit", small, WriterIgnoresLimit, "no semaphore's", Config{
			Acquirers: all(permits(0, 1, 1), writer(1))}},
		{"a ticket ignores the limit", small, TicketIgnoresLimit, "without its limit", Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1), writer(2)), Faults: Faults{Expire: 1}}},
		{"the last release keeps the limit", small, LimitKept, leftOver, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1))}},
	})
}

func TestSetDefects(t *testing.T) {
	cases := []struct {
		name   string
		defect MultiDefect
		harm   string
		cfg    MultiConfig
	}{
		{"C9 parts handed over early", PartsHandedOver, stuck, MultiConfig{
			Members: members(wants(0, 0, 1), wants(1, 0, 1), wants(0, 1), wants(0, 0))}},
		{"forced release keeps the set record", ForcedKeepsRecord, "a part is another's", MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0)), Faults: Faults{Force: 1}}},
		{"forced release deletes the set record, and Enter goes by it", ForcedDeletesRecord, stuck, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0)), Faults: Faults{LoseReply: 1, Force: 1}}},
		{"forced release deletes the set record, and Cancel goes by it", ForcedDeletesRecord, leftOver, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0)), Faults: Faults{Cancel: 1, Force: 1}}},
		{"a set that lost one ticket leaves the others", GoneLeavesOtherTickets, leftOver, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0)), Faults: Faults{DropTicket: 1}}},
		{"a set at the head is passed over", SetSkippedInLine, overtakes, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0, 1), wants(0, 1))}},
		{"no void record for a set", SetWithoutVoid, finished, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0)), Faults: Faults{Cancel: 1}}},
		{"claim of a set guards one name only", ClaimIgnoresOneName, overtakes, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0), wants(1, 1)), Faults: Faults{Expire: 1}}},
		{"Pass leaves the ticket of a lost part", PassKeepsOtherTickets, leftOver, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0)), Faults: Faults{DropGrant: 1}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wrong := c.cfg
			wrong.Defect = c.defect
			mustFind(t, c.harm, Search(NewMulti(c.cfg), bound), Search(NewMulti(wrong), bound))
		})
	}
}

// TestRecordDoesNotSeeHands states a limit of the set record: a part deleted by hand leaves it standing until its
// holder hears of it.
func TestRecordDoesNotSeeHands(t *testing.T) {
	c := MultiConfig{Members: members(wants(0, 0, 1), wants(0, 0)), Faults: Faults{DropGrant: 1}}
	right := Search(NewMulti(c), bound)
	c.TrustRecord = true
	mustFind(t, "a part is another's", right, Search(NewMulti(c), bound))
}

// TestElectionDefects looks for those of docs/protocol-election.md.
func TestElectionDefects(t *testing.T) {
	findAll(t, []defectCase{
		{"an heir need not stand", small, HeirNeedNotStand, finished, Config{
			Acquirers: all(writer(0), writer(1), writer(2)), Faults: Faults{Transfer: 1, Cancel: 1}}},
		{"the heir of a seat need not stand", small, HeirNeedNotStand, finished, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1)), Faults: Faults{Transfer: 1, Cancel: 1}}},
		{"an heir may want more permits than are given back", small, HeirMayWantMore, "more permits", Config{
			Acquirers: all(permits(0, 1, 2), permits(1, 1, 2), permits(2, 2, 2)), Faults: Faults{Transfer: 1}}},
	})
}

// TestGuardsWithoutEffect holds what docs/protocol.md says of two guards: the search does not miss them.
func TestGuardsWithoutEffect(t *testing.T) {
	search := func(name string, c Config) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			medium.skip(t)
			if r := Search(NewLine(c), bound); r.Violation != "" || r.Cut {
				t.Fatal(r)
			}
		})
	}
	search("claim ignores the grant, one bucket", Config{
		Acquirers: all(writer(0), writer(1), writer(2)), Defect: ClaimIgnoresGrant, Faults: Faults{Expire: 1, Cancel: 1}})
	search("next ticket without the void guard, patient", Config{
		Acquirers: all(writer(0), writer(0), writer(1)), LocalLine: true, Defect: NextWithoutVoidGuard,
		Faults: Faults{LoseReply: 1, Cancel: 1}})
}
