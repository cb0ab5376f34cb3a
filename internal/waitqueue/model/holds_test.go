package model

import "testing"

type lineCase struct {
	name string
	size size
	cfg  Config
}

// everyFault is each fault once.
var everyFault = Faults{
	Expire: 1, Crash: 1, LoseReply: 1, Cancel: 1, Force: 1, LoseWatch: 1, DropTicket: 1, DropGrant: 1,
}

func searchAll(t *testing.T, cases []lineCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.size.skip(t)
			mustHold(t, c.name, Search(NewLine(c.cfg), bound))
		})
	}
}

func TestMutexHolds(t *testing.T) {
	two, three := all(writer(0), writer(1)), all(writer(0), writer(1), writer(2))
	searchAll(t, []lineCase{
		{"2 writers", small, Config{Acquirers: two}},
		{"3 writers", small, Config{Acquirers: three}},
		{"2 writers; 2 lost replies", small, Config{Acquirers: two, Faults: Faults{LoseReply: 2}}},
		{"2 writers; lost reply, cancel, both deletions by hand", small, Config{
			Acquirers: two, Faults: Faults{LoseReply: 1, Cancel: 1, DropTicket: 1, DropGrant: 1}}},
		{"2 writers; lost reply, forced release", small, Config{Acquirers: two, Faults: Faults{LoseReply: 1, Force: 1}}},
		{"2 writers; 3 lost replies, cancel", small, Config{Acquirers: two, Faults: Faults{LoseReply: 3, Cancel: 1}}},
		{"2 writers; expiry, crash, lost reply, cancel, forced release, lost watch", medium, Config{
			Acquirers: two, Faults: Faults{Expire: 1, Crash: 1, LoseReply: 1, Cancel: 1, Force: 1, LoseWatch: 1}}},
		{"2 writers; every fault once", large, Config{Acquirers: two, Faults: everyFault}},
		{"2 writers, 2 acquisitions each; lost reply", small, Config{
			Acquirers: all(writer(0), after(writer(0), 1), writer(1), after(writer(1), 3)), Faults: Faults{LoseReply: 1}}},
		{"2 writers, 2 acquisitions each; expiry, lost reply, cancel", large, Config{
			Acquirers: all(writer(0), after(writer(0), 1), writer(1), after(writer(1), 3)),
			Faults:    Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"3 writers, one TryLock; expiry, lost reply", medium, Config{
			Acquirers: all(tries(writer(0)), writer(1), writer(2)), Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"3 writers; expiry, cancel", medium, Config{Acquirers: three, Faults: Faults{Expire: 1, Cancel: 1}}},
		{"3 writers; crash, forced release, lost watch, grant deleted by hand", large, Config{
			Acquirers: three, Faults: Faults{Crash: 1, Force: 1, LoseWatch: 1, DropGrant: 1}}},
		{"3 writers; expiry, lost reply, cancel", large, Config{
			Acquirers: three, Faults: Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"3 writers; 2 lost replies, cancel", large, Config{Acquirers: three, Faults: Faults{LoseReply: 2, Cancel: 1}}},
		{"3 writers; 2 expiries, cancel", large, Config{Acquirers: three, Faults: Faults{Expire: 2, Cancel: 1}}},
		{"3 writers who look at once; expiry", small, Config{
			Acquirers: three, EarlyLook: true, Faults: Faults{Expire: 1}}},
		{"3 writers who look at once and read the line while they own; expiry, lost reply", large, Config{
			Acquirers: three, EarlyLook: true, Reads: true, Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"4 writers; expiry", large, Config{
			Acquirers: all(writer(0), writer(1), writer(2), writer(3)), Faults: Faults{Expire: 1}}},
	})
}

func TestPriorityHolds(t *testing.T) {
	searchAll(t, []lineCase{
		{"writers of urgency 0 0 1; expiry", small, Config{
			Acquirers: all(writer(0), writer(1), urgent(writer(2), 1)), Faults: Faults{Expire: 1}}},
		{"writers of urgency 0 0 1; expiry, lost reply", medium, Config{
			Acquirers: all(writer(0), writer(1), urgent(writer(2), 1)), Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"writers of urgency 0 1 2; expiry, cancel, forced release", large, Config{
			Acquirers: all(writer(0), urgent(writer(1), 1), urgent(writer(2), 2)),
			Faults:    Faults{Expire: 1, Cancel: 1, Force: 1}}},
		{"writers of urgency 0 0 1 2", large, Config{
			Acquirers: all(writer(0), writer(1), urgent(writer(2), 1), urgent(writer(3), 2))}},
		{"W R W(1); expiry, lost reply", large, Config{
			Acquirers: all(writer(0), reader(1), urgent(writer(2), 1)), Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"W R R(1); expiry", small, Config{
			Acquirers: all(writer(0), reader(1), urgent(reader(2), 1)), Faults: Faults{Expire: 1}}},
		{"W R W(1) R(1)", medium, Config{
			Acquirers: all(writer(0), reader(1), urgent(writer(2), 1), urgent(reader(3), 1))}},
		{"limit 2: 1 2 1(1); expiry", small, Config{
			Acquirers: all(permits(0, 1, 2), permits(1, 2, 2), urgent(permits(2, 1, 2), 1)), Faults: Faults{Expire: 1}}},
	})
}

func TestLockDelayHolds(t *testing.T) {
	two, three := all(delays(writer(0)), writer(1)), all(delays(writer(0)), writer(1), delays(writer(2)))
	searchAll(t, []lineCase{
		{"W with a delay, W; expiry, lost reply, cancel", small, Config{
			Acquirers: two, Faults: Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"W with a delay, W; crash, lost reply, forced release, grant deleted by hand", small, Config{
			Acquirers: two, Faults: Faults{Crash: 1, LoseReply: 1, Force: 1, DropGrant: 1}}},
		{"TryLock with a delay, W; lost reply, cancel, grant deleted by hand", small, Config{
			Acquirers: all(tries(delays(writer(0))), writer(1)), Faults: Faults{LoseReply: 1, Cancel: 1, DropGrant: 1}}},
		{"W with a delay, W; expiry, 2 lost replies, cancel, forced release, grant deleted by hand", large, Config{
			Acquirers: two, Faults: Faults{Expire: 1, LoseReply: 2, Cancel: 1, Force: 1, DropGrant: 1}}},
		{"W with a delay, W, W with a delay; expiry", small, Config{Acquirers: three, Faults: Faults{Expire: 1}}},
		{"W with a delay, W, W with a delay; expiry, forced release, grant deleted by hand", large, Config{
			Acquirers: three, Faults: Faults{Expire: 1, Force: 1, DropGrant: 1}}},
		{"W with a delay, W, R; expiry, cancel", medium, Config{
			Acquirers: all(delays(writer(0)), writer(1), reader(2)), Faults: Faults{Expire: 1, Cancel: 1}}},
		{"W with a delay, which may downgrade, and R; expiry, cancel", small, Config{
			Acquirers: all(delays(lowers(writer(0))), reader(1)), Faults: Faults{Expire: 1, Cancel: 1}}},
		{"W with a delay, and limit 1: 1; expiry, lost reply", small, Config{
			Acquirers: all(delays(writer(0)), permits(1, 1, 1)), Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"local line of 2 with delays, and 1; expiry, lost reply", small, Config{
			Acquirers: all(delays(writer(0)), delays(writer(0)), writer(1)), LocalLine: true,
			Faults: Faults{Expire: 1, LoseReply: 1}}},
	})
}

// The owner of an election may be told to let go in favour of a waiter; two candidates of one session stand apart.
func TestElectionHolds(t *testing.T) {
	three := all(writer(0), writer(1), writer(2))
	urgentThree := all(writer(0), writer(1), urgent(writer(2), 1))
	searchAll(t, []lineCase{
		{"3 candidates; transfer", small, Config{Acquirers: three, Faults: Faults{Transfer: 1}}},
		{"3 candidates; 2 transfers", small, Config{Acquirers: three, Faults: Faults{Transfer: 2}}},
		{"3 candidates; transfer, expiry", medium, Config{Acquirers: three, Faults: Faults{Transfer: 1, Expire: 1}}},
		{"3 candidates; transfer, lost reply", medium, Config{Acquirers: three, Faults: Faults{Transfer: 1, LoseReply: 1}}},
		{"3 candidates; transfer, cancel, ticket deleted by hand", large, Config{
			Acquirers: three, Faults: Faults{Transfer: 1, Cancel: 1, DropTicket: 1}}},
		{"3 candidates; transfer, forced release, grant deleted by hand", large, Config{
			Acquirers: three, Faults: Faults{Transfer: 1, Force: 1, DropGrant: 1}}},
		{"3 candidates who follow the line while they own; transfer, expiry", large, Config{
			Acquirers: three, Reads: true, Faults: Faults{Transfer: 1, Expire: 1}}},
		{"candidates of urgency 0 0 1; transfer, expiry", medium, Config{
			Acquirers: urgentThree, Faults: Faults{Transfer: 1, Expire: 1}}},
		{"candidates of urgency 0 0 1; transfer, lost reply, cancel", large, Config{
			Acquirers: urgentThree, Faults: Faults{Transfer: 1, LoseReply: 1, Cancel: 1}}},
		{"2 candidates of one session, and 1; transfer, expiry", medium, Config{
			Acquirers: all(writer(0), writer(0), writer(1)), Faults: Faults{Transfer: 1, Expire: 1}}},
		{"2 candidates of one session, and 1; lost reply, cancel", medium, Config{
			Acquirers: all(writer(0), writer(0), writer(1)), Faults: Faults{LoseReply: 1, Cancel: 1}}},
	})
}

// Among several seats one leader is told, and gives its seat to the heir.
func TestSeatsHold(t *testing.T) {
	two := all(permits(0, 1, 2), permits(1, 1, 2), permits(2, 1, 2))
	searchAll(t, []lineCase{
		{"1 seat of several, 2 candidates; 2 transfers, expiry, lost reply", small, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1)), Faults: Faults{Transfer: 2, Expire: 1, LoseReply: 1}}},
		{"2 seats, 3 candidates; transfer", small, Config{Acquirers: two, Faults: Faults{Transfer: 1}}},
		{"2 seats, 3 candidates; 2 transfers", small, Config{Acquirers: two, Faults: Faults{Transfer: 2}}},
		{"2 seats, 3 candidates; transfer, expiry", medium, Config{Acquirers: two, Faults: Faults{Transfer: 1, Expire: 1}}},
		{"2 seats, 3 candidates; transfer, lost reply", medium, Config{Acquirers: two, Faults: Faults{Transfer: 1, LoseReply: 1}}},
		{"2 seats, 3 candidates; transfer, cancel, ticket deleted by hand", medium, Config{
			Acquirers: two, Faults: Faults{Transfer: 1, Cancel: 1, DropTicket: 1}}},
		{"2 seats, 3 candidates; transfer, forced release, grant deleted by hand", large, Config{
			Acquirers: two, Faults: Faults{Transfer: 1, Force: 1, DropGrant: 1}}},
		{"2 seats, 3 candidates; transfer, expiry, cancel", medium, Config{
			Acquirers: two, Faults: Faults{Transfer: 1, Expire: 1, Cancel: 1}}},
		{"2 seats, 3 candidates; transfer, lost reply, cancel", large, Config{
			Acquirers: two, Faults: Faults{Transfer: 1, LoseReply: 1, Cancel: 1}}},
		{"1 seat of several, 3 candidates who may lead for ever; transfer, expiry", medium, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1), permits(2, 1, 1)), Holds: true, Faults: Faults{Transfer: 1, Expire: 1}}},
		{"1 seat of several, candidates of urgency 0 0 1; transfer, expiry", medium, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1), urgent(permits(2, 1, 1), 1)), Faults: Faults{Transfer: 1, Expire: 1}}},
		{"limit 3: 2 1 2; transfer, expiry", medium, Config{
			Acquirers: all(permits(0, 2, 3), permits(1, 1, 3), permits(2, 2, 3)), Faults: Faults{Transfer: 1, Expire: 1}}},
	})
}

func TestLocalLineHolds(t *testing.T) {
	three := all(writer(0), writer(0), writer(1))
	searchAll(t, []lineCase{
		{"local line of 2, and 1", small, Config{Acquirers: three, LocalLine: true}},
		{"local line of 2, and 1; expiry, cancel", small, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{Expire: 1, Cancel: 1}}},
		{"local line of 2, and 1; lost reply, cancel", medium, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{LoseReply: 1, Cancel: 1}}},
		{"local line of 2, impatient, and 1; lost reply, cancel", medium, Config{
			Acquirers: three, LocalLine: true, Impatient: true, Faults: Faults{LoseReply: 1, Cancel: 1}}},
		{"local line of 2, and 1; 2 lost replies, cancel", large, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{LoseReply: 2, Cancel: 1}}},
		{"local line of 2, impatient, and 1; 2 lost replies, cancel", large, Config{
			Acquirers: three, LocalLine: true, Impatient: true, Faults: Faults{LoseReply: 2, Cancel: 1}}},
		{"local line of 2, and 1; expiry, lost reply, cancel", large, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"local line of 2, and 1; forced release, both deletions by hand", small, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{Force: 1, DropTicket: 1, DropGrant: 1}}},
		{"local line of 2, and 1; lost reply, forced release, both deletions by hand", large, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{LoseReply: 1, Force: 1, DropTicket: 1, DropGrant: 1}}},
		{"local line of 2, and 1; crash, forced release, lost watch", small, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{Crash: 1, Force: 1, LoseWatch: 1}}},
		{"local line of 2, alone; expiry, 2 lost replies, cancel, forced release", small, Config{
			Acquirers: three[:2], LocalLine: true, Faults: Faults{Expire: 1, LoseReply: 2, Cancel: 1, Force: 1}}},
		{"local line of 2, and 1; release given up, cancel", small, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{GiveUpPass: 1, Cancel: 1}}},
		{"local line of 2, and 1; release given up, lost reply, cancel, forced release", large, Config{
			Acquirers: three, LocalLine: true, Faults: Faults{GiveUpPass: 1, LoseReply: 1, Cancel: 1, Force: 1}}},
		{"local line with a TryLock, and 1; expiry, lost reply, cancel", medium, Config{
			Acquirers: all(writer(0), tries(writer(0)), writer(1)), LocalLine: true,
			Faults: Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"local line of 2, and 2 readers", medium, Config{
			Acquirers: all(writer(0), writer(0), reader(1), reader(2)), LocalLine: true, Reads: true}},
		{"2 local lines of 2", small, Config{Acquirers: all(writer(0), writer(0), writer(1), writer(1)), LocalLine: true}},
		{"2 local lines of 2; expiry, cancel", large, Config{
			Acquirers: all(writer(0), writer(0), writer(1), writer(1)), LocalLine: true,
			Faults: Faults{Expire: 1, Cancel: 1}}},
		{"local line of 3, and 1; lost reply, cancel", large, Config{
			Acquirers: all(writer(0), writer(0), writer(0), writer(1)), LocalLine: true,
			Faults: Faults{LoseReply: 1, Cancel: 1}}},
	})
}
