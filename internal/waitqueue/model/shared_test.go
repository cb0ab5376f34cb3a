package model

import "testing"

func TestReadersAndWritersHold(t *testing.T) {
	wrr, wrw := all(writer(0), reader(1), reader(2)), all(writer(0), reader(1), writer(2))
	searchAll(t, []lineCase{
		{"R R; expiry, 2 lost replies, cancel", small, Config{
			Acquirers: all(reader(0), reader(1)), Faults: Faults{Expire: 1, LoseReply: 2, Cancel: 1}}},
		{"W R; expiry, 2 lost replies, cancel", small, Config{
			Acquirers: wrr[:2], Faults: Faults{Expire: 1, LoseReply: 2, Cancel: 1}}},
		{"W R R; lost reply", small, Config{Acquirers: wrr, Faults: Faults{LoseReply: 1}}},
		{"W R R; expiry, cancel", medium, Config{Acquirers: wrr, Faults: Faults{Expire: 1, Cancel: 1}}},
		{"W R R; expiry, lost reply, cancel", large, Config{
			Acquirers: wrr, Faults: Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"W R R, owners read the line; expiry, cancel, ticket deleted by hand", medium, Config{
			Acquirers: wrr, Reads: true, Faults: Faults{Expire: 1, Cancel: 1, DropTicket: 1}}},
		{"W R W; lost reply", small, Config{Acquirers: wrw, Faults: Faults{LoseReply: 1}}},
		{"W R W; 2 lost replies", medium, Config{Acquirers: wrw, Faults: Faults{LoseReply: 2}}},
		{"W R W; expiry, lost reply, cancel", large, Config{
			Acquirers: wrw, Faults: Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"W R W; grant deleted by hand", small, Config{Acquirers: wrw, Faults: Faults{DropGrant: 1}}},
		{"W R W; forced release", small, Config{Acquirers: wrw, Faults: Faults{Force: 1}}},
		{"W R W; forced release, both deletions by hand", medium, Config{
			Acquirers: wrw, Faults: Faults{Force: 1, DropGrant: 1, DropTicket: 1}}},
		{"W R W; crash, forced release, lost watch", medium, Config{
			Acquirers: wrw, Faults: Faults{Crash: 1, Force: 1, LoseWatch: 1}}},
		{"W R W, owners may stay; expiry, cancel", medium, Config{
			Acquirers: wrw, Holds: true, Faults: Faults{Expire: 1, Cancel: 1}}},
		{"W R R W", medium, Config{Acquirers: append(wrr[:3:3], writer(3))}},
		{"W R W R", large, Config{Acquirers: append(wrw[:3:3], reader(3))}},
	})
}

func TestDowngradeHolds(t *testing.T) {
	lrw := all(lowers(writer(0)), reader(1), writer(2))
	searchAll(t, []lineCase{
		{"W R W, W may downgrade; expiry", medium, Config{Acquirers: lrw, Faults: Faults{Expire: 1}}},
		{"W R R, W may downgrade; lost reply", medium, Config{
			Acquirers: all(lowers(writer(0)), reader(1), reader(2)), Faults: Faults{LoseReply: 1}}},
		{"W R W, W may downgrade; expiry, lost reply", large, Config{
			Acquirers: lrw, Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"W R W, W may downgrade, owners may stay and read the line; expiry, cancel", medium, Config{
			Acquirers: lrw, Reads: true, Holds: true, Faults: Faults{Expire: 1, Cancel: 1}}},
		{"W R R, W may downgrade, owners read the line; forced release, grant deleted by hand", large, Config{
			Acquirers: all(lowers(writer(0)), reader(1), reader(2)), Reads: true, Faults: Faults{Force: 1, DropGrant: 1}}},
	})
}

func TestPermitsHold(t *testing.T) {
	three := all(permits(0, 1, 2), permits(1, 2, 2), permits(2, 1, 2))
	searchAll(t, []lineCase{
		{"limit 1: 1 1; 2 lost replies, cancel", small, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 1)), Faults: Faults{LoseReply: 2, Cancel: 1}}},
		{"limit 2: 1 1 1", small, Config{Acquirers: all(permits(0, 1, 2), permits(1, 1, 2), permits(2, 1, 2))}},
		{"limit 2: 1 1 1; 2 lost replies", medium, Config{
			Acquirers: all(permits(0, 1, 2), permits(1, 1, 2), permits(2, 1, 2)), Faults: Faults{LoseReply: 2}}},
		{"limit 2: 1 2 1; lost reply", medium, Config{Acquirers: three, Faults: Faults{LoseReply: 1}}},
		{"limit 2: 1 2 1; expiry, cancel", medium, Config{Acquirers: three, Faults: Faults{Expire: 1, Cancel: 1}}},
		{"limit 2: 1 2 1, owners may stay; expiry, cancel", medium, Config{
			Acquirers: three, Holds: true, Faults: Faults{Expire: 1, Cancel: 1}}},
		{"limit 2: 1 2 1; expiry, lost reply, cancel", large, Config{
			Acquirers: three, Faults: Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"limit 2: 1 2 1; forced release, both deletions by hand", medium, Config{
			Acquirers: three, Faults: Faults{Force: 1, DropGrant: 1, DropTicket: 1}}},
		{"limit 2: 1 1 1 1, owners may stay", large, Config{
			Acquirers: all(permits(0, 1, 2), permits(1, 1, 2), permits(2, 1, 2), permits(3, 1, 2)), Holds: true}},
		{"limit 3: 2 1 3 1, owners read the line", large, Config{
			Acquirers: all(permits(0, 2, 3), permits(1, 1, 3), permits(2, 3, 3), permits(3, 1, 3)), Reads: true}},
	})
}

func TestLimitHolds(t *testing.T) {
	searchAll(t, []lineCase{
		{"W and limit 1: 1; expiry, 2 lost replies, cancel", small, Config{
			Acquirers: all(writer(0), permits(1, 1, 1)), Faults: Faults{Expire: 1, LoseReply: 2, Cancel: 1}}},
		{"W and limit 1: 1 1; expiry", small, Config{
			Acquirers: all(writer(0), permits(1, 1, 1), permits(2, 1, 1)), Faults: Faults{Expire: 1}}},
		{"W and limit 1: 1 1; expiry, lost reply, cancel", medium, Config{
			Acquirers: all(writer(0), permits(1, 1, 1), permits(2, 1, 1)),
			Faults:    Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"W W and limit 1: 1; expiry, lost reply, cancel", medium, Config{
			Acquirers: all(writer(0), writer(1), permits(2, 1, 1)), Faults: Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
		{"W R and limit 1: 1; expiry, lost reply", medium, Config{
			Acquirers: all(writer(0), reader(1), permits(2, 1, 1)), Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"limit 1: 1, and limit 2: 1 1; expiry", small, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 2), permits(2, 1, 2)), Faults: Faults{Expire: 1}}},
		{"limit 1: 1, and limit 2: 1 1; expiry, lost reply, grant deleted by hand", medium, Config{
			Acquirers: all(permits(0, 1, 1), permits(1, 1, 2), permits(2, 1, 2)),
			Faults:    Faults{Expire: 1, LoseReply: 1, DropGrant: 1}}},
	})
}

func TestSetsHold(t *testing.T) {
	cases := []struct {
		name string
		size size
		cfg  MultiConfig
	}{
		{"sets AB BC AC", small, MultiConfig{Members: members(wants(0, 0, 1), wants(0, 1, 2), wants(0, 0, 2))}},
		{"sets AB BC AC; expiry, cancel", medium, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 1, 2), wants(0, 0, 2)), Faults: Faults{Expire: 1, Cancel: 1}}},
		{"sets AB AB; expiry, 2 lost replies, cancel", small, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0, 1)), Faults: Faults{Expire: 1, LoseReply: 2, Cancel: 1}}},
		{"sets AB A B; expiry, lost reply", medium, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0), wants(0, 1)), Faults: Faults{Expire: 1, LoseReply: 1}}},
		{"sets AB A B; forced release of one part, ticket deleted by hand", medium, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0), wants(0, 1)), Faults: Faults{Force: 1, DropTicket: 1}}},
		{"sets AB A B; forced release of one part, grant deleted by hand", medium, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0), wants(0, 1)), Faults: Faults{Force: 1, DropGrant: 1}}},
		{"sets AB A; lost reply, forced release of one part, grant deleted by hand", small, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0)), Faults: Faults{LoseReply: 1, Force: 1, DropGrant: 1}}},
		{"sets AB A; expiry, 2 lost replies, cancel, forced release of one part, ticket deleted by hand", medium, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0)),
			Faults:  Faults{Expire: 1, LoseReply: 2, Cancel: 1, Force: 1, DropTicket: 1}}},
		{"sets AB AB; 2 lost replies, cancel, 2 forced releases of a part", medium, MultiConfig{
			Members: members(wants(0, 0, 1), wants(0, 0, 1)), Faults: Faults{LoseReply: 2, Cancel: 1, Force: 2}}},
		{"sets AB(0) AB(1) B(0); expiry", small, MultiConfig{
			Members: members(wants(0, 0, 1), wants(1, 0, 1), wants(0, 1)), Faults: Faults{Expire: 1}}},
		{"sets AB(0) AB(1) B(0) A(0)", medium, MultiConfig{
			Members: members(wants(0, 0, 1), wants(1, 0, 1), wants(0, 1), wants(0, 0))}},
		{"sets AB(0) AC(1) B(0) C(2); expiry", large, MultiConfig{
			Members: members(wants(0, 0, 1), wants(1, 0, 2), wants(0, 1), wants(2, 2)), Faults: Faults{Expire: 1}}},
		{"sets ABC(0) AB(1) BC(2); expiry, lost reply, cancel", large, MultiConfig{
			Members: members(wants(0, 0, 1, 2), wants(1, 0, 1), wants(2, 1, 2)),
			Faults:  Faults{Expire: 1, LoseReply: 1, Cancel: 1}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.size.skip(t)
			mustHold(t, c.name, Search(NewMulti(c.cfg), bound))
		})
	}
}
