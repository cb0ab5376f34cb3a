package model

import "testing"

func at(host int8) Call { return Call{Host: host} }

func last(host int8) Call { return Call{Host: host, Last: true} }

func triesAt(host int8) Call { return Call{Host: host, Try: true} }

func calls(q ...Call) []Call { return q }

const library int8 = 0

func TestLentHolds(t *testing.T) {
	for _, c := range []struct {
		name string
		size size
		cfg  LentConfig
	}{
		{"lease at host 1, W", small, LentConfig{Calls: calls(at(1), at(library))}},
		{"lease at host 1, again at 1; lost reply, cancel", small, LentConfig{
			Calls: calls(at(1), last(1)), Faults: LentFaults{LoseReply: 1, Cancel: 1}}},
		{"lease at host 1, again at 2; killed, 2 lost replies", small, LentConfig{
			Calls: calls(at(1), last(2)), Faults: LentFaults{Kill: 1, LoseReply: 2}}},
		{"lease at hosts 1 2, again at 2; killed, lost reply", small, LentConfig{
			Calls: calls(at(1), at(2), last(2)), Faults: LentFaults{Kill: 1, LoseReply: 1}}},
		{"lease at hosts 1 2, again at 2; killed, cancel", small, LentConfig{
			Calls: calls(at(1), at(2), last(2)), Faults: LentFaults{Kill: 1, Cancel: 1}}},
		{"lease at hosts 1 1, again at 2; killed, lost reply, cancel", medium, LentConfig{
			Calls: calls(at(1), at(1), last(2)), Faults: LentFaults{Kill: 1, LoseReply: 1, Cancel: 1}}},
		{"lease at hosts 1 2, again at 3; 2 killed", small, LentConfig{
			Calls: calls(at(1), at(2), last(3)), Faults: LentFaults{Kill: 2}}},
		{"lease at host 1, again at 2, W; killed", small, LentConfig{
			Calls: calls(at(1), last(2), at(library)), Faults: LentFaults{Kill: 1}}},
		{"lease at host 1, again at 2, W; expiry, killed, lost reply", small, LentConfig{
			Calls: calls(at(1), last(2), at(library)), Faults: LentFaults{Kill: 1, LoseReply: 1, Expire: 1}}},
		{"lease at host 1, again at 2, W; killed, lost reply, cancel", medium, LentConfig{
			Calls: calls(at(1), last(2), at(library)), Faults: LentFaults{Kill: 1, LoseReply: 1, Cancel: 1}}},
		{"lease at hosts 1 2, again at 2, W; killed", medium, LentConfig{
			Calls: calls(at(1), at(2), last(2), at(library)), Faults: LentFaults{Kill: 1}}},
		{"lease at hosts 1 2, again at 2, W; cancel", medium, LentConfig{
			Calls: calls(at(1), at(2), last(2), at(library)), Faults: LentFaults{Cancel: 1}}},
		{"lease at hosts 1 2, again at 2, W; 2 cancels", large, LentConfig{
			Calls: calls(at(1), at(2), last(2), at(library)), Faults: LentFaults{Cancel: 2}}},
		{"lease at hosts 1 2, again at 2, W; killed, cancel", large, LentConfig{
			Calls: calls(at(1), at(2), last(2), at(library)), Faults: LentFaults{Kill: 1, Cancel: 1}}},
		{"lease at hosts 1 2, again at 2, W; killed, lost reply", large, LentConfig{
			Calls: calls(at(1), at(2), last(2), at(library)), Faults: LentFaults{Kill: 1, LoseReply: 1}}},
		{"lease at hosts 1 2, again at 3, W; 2 killed", large, LentConfig{
			Calls: calls(at(1), at(2), last(3), at(library)), Faults: LentFaults{Kill: 2}}},
		{"lease at hosts 1 2, the second tries, again at 2, W; killed, lost reply", large, LentConfig{
			Calls: calls(at(1), triesAt(2), last(2), at(library)), Faults: LentFaults{Kill: 1, LoseReply: 1}}},
		{"lease at hosts 1 2, again at 2, W; expiry, lost reply", large, LentConfig{
			Calls: calls(at(1), at(2), last(2), at(library)), Faults: LentFaults{Expire: 1, LoseReply: 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.size.skip(t)
			mustHold(t, c.name, Search(NewLent(c.cfg), bound))
		})
	}
}

// TestLentDefects takes the guards of a lease that several hosts serve out of
// the model one by one.
func TestLentDefects(t *testing.T) {
	oneTwo, both := calls(at(1), last(2)), calls(at(1), at(2), last(2))
	withLibrary := calls(at(1), at(2), last(2), at(library))
	for _, c := range []struct {
		name   string
		size   size
		defect LentDefect
		harm   string
		cfg    LentConfig
	}{
		{"requests do not name the home", small, NoHome, leftOver, LentConfig{Calls: oneTwo, Faults: LentFaults{Kill: 1}}},
		{"a release by token leaves the home", small, ReleaseLeavesHome, leftOver, LentConfig{
			Calls: oneTwo, Faults: LentFaults{Kill: 1, LoseReply: 1}}},
		{"a taking up leaves the home", large, TakeUpLeavesHome, leftOver, LentConfig{
			Calls: calls(at(1), at(2), last(3), at(library)), Faults: LentFaults{Kill: 2}}},
		{"the home moves with the acquisition", small, MovesWhileAcquiring, leftOver, LentConfig{
			Calls: both, Faults: LentFaults{Kill: 1}}},
		{"Enter does not ask for what the lease has", small, QueuesBehindItself, "behind itself", LentConfig{
			Calls: both, Faults: LentFaults{Kill: 1, LoseReply: 1}}},
		{"a taking up leaves no record", small, TakesNothingUp, believes, LentConfig{Calls: both, Faults: LentFaults{Cancel: 1}}},
		{"who gives up ignores it", small, GiveUpIgnoresTakeUp, believes, LentConfig{Calls: both, Faults: LentFaults{Cancel: 1}}},
		{"who cancels ignores it", medium, CancelIgnoresTakeUp, "nobody cancelled", LentConfig{
			Calls: withLibrary, Faults: LentFaults{Cancel: 1}}},
		{"what was taken up is given up", small, GivesUpWhatOthersHave, believes, LentConfig{
			Calls: both, Faults: LentFaults{Cancel: 1}}},
		{"the ticket is watched after it was taken up", medium, WatchAfterTakeUp, silent, LentConfig{
			Calls: calls(triesAt(1), at(1), last(2), at(library)), Faults: LentFaults{Kill: 1, LoseReply: 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.size.skip(t)
			var right Result
			if c.size == small || soaking() {
				right = Search(NewLent(c.cfg), bound)
			}
			wrong := c.cfg
			wrong.Defect = c.defect
			mustFind(t, c.harm, right, Search(NewLent(wrong), bound))
		})
	}
}
