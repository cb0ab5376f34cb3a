package model

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	search "github.com/conclavehq/conclave/internal/waitqueue/model"
)

const bound = 40_000_000

func soaking() bool { return os.Getenv("CONCLAVE_SOAK") == "1" }

// thousands writes a number with commas.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

type holdsCase struct {
	name  string
	large bool
	cfg   Config
}

func holdsCases() []holdsCase {
	return []holdsCase{
		{"1 item, 2 consumers", false, Config{Items: 1, Consumers: 2}},
		{"2 items, 2 consumers", true, Config{Items: 2, Consumers: 2}},
		{"1 item, 2 consumers; 2 lost replies", false, Config{Items: 1, Consumers: 2, Faults: Faults{LoseReply: 2}}},
		{"1 item, 2 consumers; lost reply, expiry, crash", true, Config{Items: 1, Consumers: 2, Faults: Faults{LoseReply: 1, Expire: 1, Crash: 1}}},
		{"1 item, 2 consumers; 2 lost replies, expiry, visibility", true, Config{Items: 1, Consumers: 2,
			Faults: Faults{LoseReply: 2, Expire: 1, Visibility: 1}}},
		{"1 item, 2 consumers; lost reply, visibility, cancel", false, Config{Items: 1, Consumers: 2,
			Faults: Faults{LoseReply: 1, Visibility: 1, Cancel: 1}}},
		{"1 item, 2 consumers; lost reply, both deletions by hand", false, Config{Items: 1, Consumers: 2,
			Faults: Faults{LoseReply: 1, DropOut: 1, DropHere: 1}}},
		{"1 item, 2 served consumers; 2 lost replies, visibility", false, Config{Items: 1, Consumers: 2, Served: true,
			Faults: Faults{LoseReply: 2, Visibility: 1}}},
		{"1 item, 2 consumers; removal, lost reply, crash", false, Config{Items: 1, Consumers: 2, Remove: Empty,
			Faults: Faults{LoseReply: 1, Crash: 1}}},
		{"1 item, 2 consumers; removal, 2 lost replies, expiry", true, Config{Items: 1, Consumers: 2, Remove: Empty,
			Faults: Faults{LoseReply: 2, Expire: 1}}},
		{"1 item, 1 consumer; forced removal, dedup page, 2 lost replies", false, Config{Items: 1, Consumers: 1, Remove: Forced,
			Faults: Faults{LoseReply: 2, Forget: 1}}},
		{"1 item, 2 consumers; forced removal, lost reply, visibility", true, Config{Items: 1, Consumers: 2, Remove: Forced,
			Faults: Faults{LoseReply: 1, Visibility: 1}}},
		{"2 items, 1 consumer; forced removal", false, Config{Items: 2, Consumers: 1, Remove: Forced}},
		{"2 items in segments, 1 consumer; forced removal", true, Config{Items: 2, Consumers: 1, Lanes: true, Once: true, Remove: Forced}},
		{"2 items in segments, 1 consumer; lost reply, other producer", false, Config{Items: 2, Consumers: 1, Lanes: true, Once: true,
			Faults: Faults{LoseReply: 1, Open: 1}}},
		{"2 items beside each other, 1 consumer; 2 lost replies, other producer", false, Config{Items: 2, Consumers: 1, Lanes: true, Begun: true, Once: true,
			Faults: Faults{LoseReply: 2, Open: 1}}},
		{"2 items beside each other, 1 consumer; removal, lost reply", true, Config{Items: 2, Consumers: 1, Lanes: true, Begun: true, Once: true,
			Remove: Empty, Faults: Faults{LoseReply: 1}}},
		{"1 item, 2 callers; lost reply, second call, visibility", false, Config{Items: 1, Consumers: 2, Served: true, Hosts: true, Shared: true,
			Faults: Faults{LoseReply: 1, Again: 1, Visibility: 1}}},
		{"1 item, 2 callers; second call, burial, compaction, expiry", false, Config{Items: 1, Consumers: 2, Served: true, Hosts: true, Shared: true,
			Faults: Faults{Again: 1, Bury: 1, Compact: 1, Expire: 1}}},
		{"1 item, 2 callers; forced removal, second call", false, Config{Items: 1, Consumers: 2, Served: true, Hosts: true, Shared: true,
			Remove: Forced, Faults: Faults{Again: 1}}},
		{"1 item, 2 served consumers; forced removal, second call", true, Config{Items: 1, Consumers: 2, Served: true, Hosts: true, Remove: Forced,
			Faults: Faults{Again: 1}}},
		{"2 items, 1 served consumer; forced removal, second call, lost reply", true, Config{Items: 2, Consumers: 1, Served: true, Hosts: true, Once: true,
			Remove: Forced, Faults: Faults{Again: 1, LoseReply: 1}}},
		{"1 item, 2 served consumers; second call, lost reply, key by hand", true, Config{Items: 1, Consumers: 2, Served: true, Hosts: true,
			Faults: Faults{Again: 1, LoseReply: 1, DropHere: 1}}},
		{"1 item, 2 served consumers; second call, expiry, visibility", true, Config{Items: 1, Consumers: 2, Served: true, Hosts: true,
			Faults: Faults{Again: 1, Expire: 1, Visibility: 1}}},
	}
}

func TestTheProtocolHolds(t *testing.T) {
	page, err := os.ReadFile("../../../docs/protocol-queue.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range slices.Concat(holdsCases(), bundleCases()) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.large && !soaking() {
				t.Skip("a search of many seconds: set CONCLAVE_SOAK=1")
			}
			r := search.Search(New(c.cfg), bound)
			if r.Violation != "" || r.Cut {
				t.Fatal(r)
			}
			row := fmt.Sprintf("| %s | %s | %s | %d |", c.name, thousands(r.States), thousands(r.Steps), r.Depth)
			if !strings.Contains(string(page), row) {
				t.Errorf("docs/protocol-queue.md lacks the row\n%s", row)
			}
		})
	}
}

// atHosts is a configuration whose consumers are served.
func atHosts(c Config) Config {
	c.Served, c.Hosts = true, true
	return c
}

type defectCase struct {
	name   string
	defect Defect
	harm   string
	cfg    Config
}

func defectCases() []defectCase {
	return []defectCase{
		{"an ack without its token", AckUnguarded, "applied twice", Config{Faults: Faults{LoseReply: 1}}},
		{"a claim without its session", ClaimWithoutHere, "left in the queue", Config{Faults: Faults{LoseReply: 1, Expire: 1}}},
		{"a claim that is not repeated", ClaimNotRepeated, "left in the queue", Config{Faults: Faults{LoseReply: 1}}},
		{"a claim that is forgotten with the session's key", ClaimForgottenWithKey, "left in the queue", Config{Faults: Faults{LoseReply: 1, DropHere: 1}}},
		{"an inheritance of the living", InheritUnguarded, "confirmed has no effect", Config{Faults: Faults{LoseReply: 1}}},
		{"a return without its token", ReturnUnguarded, "came back after its ack", Config{Faults: Faults{LoseReply: 1, Visibility: 1, Expire: 1}}},
		{"an ack that is not told from a stale one", AckNotRepeated, "called stale has its effect", Config{Faults: Faults{LoseReply: 1}}},
		{"gone means acked", GoneMeansAcked, "confirmed has no effect", Config{Faults: Faults{LoseReply: 1, Expire: 1}}},
		{"no note of a served delivery's end", NoNote, "confirmed has no effect", Config{Served: true, Faults: Faults{LoseReply: 1, Visibility: 1}}},
		{"a repeated enqueue without its key", DedupIgnored, "put twice", Config{Faults: Faults{LoseReply: 1}}},
		{"nobody inherits", DeathUnnoticed, "left in the queue", Config{Faults: Faults{Expire: 1}}},
		{"a removal of what is not empty", RemoveUnguarded, "not listed", Config{Remove: Empty}},
		{"a removal among consumers", RemoveAmongUsers, "left in the queue", Config{Items: 2, Once: true, Remove: Empty, Faults: Faults{Expire: 1}}},
		{"an enqueue from before a removal", EnqueueUnguarded, "put twice", Config{Remove: Empty, Faults: Faults{LoseReply: 1, Crash: 1}}},
		{"an enqueue that does not list the queue again", ListedForGood, "not listed", Config{Items: 2, Consumers: 1, Once: true, Remove: Forced}},
		{"an enqueue that is repeated across a removal", RepeatedAcross, "put twice", Config{Remove: Empty, Faults: Faults{LoseReply: 1, Crash: 1}}},
		{"dedup keys that go unseen", ForgottenUnseen, "put twice", Config{Consumers: 1, Remove: Forced, Faults: Faults{LoseReply: 1, Forget: 1}}},
		{"a delivery that is deleted without its session's key", DropKeepsHere, "confirmed has no effect", Config{Remove: Forced, Faults: Faults{LoseReply: 1}}},
		{"lanes that are numbered anew", LanesAnew, "left in the queue", Config{Items: 2, Consumers: 1, Lanes: true, Begun: true, Once: true, Remove: Forced, Faults: Faults{Open: 1}}},
		{"an enqueue into whatever segment", LaneUnguarded, "left in the queue", Config{Items: 2, Consumers: 1, Lanes: true, Begun: true, Once: true, Faults: Faults{Open: 3}}},
		{"a host that goes by the note", NoteAtHosts, "confirmed has no effect", atHosts(Config{Shared: true, Faults: Faults{LoseReply: 1, Visibility: 1}})},
		{"a standing delivery that is called stale", StaleWithoutHere, "called stale has its effect", atHosts(Config{Faults: Faults{Again: 1, DropHere: 1}})},
		{"a look into the history that takes a return for an ack", HistoryWithoutPuts, "confirmed has no effect", atHosts(Config{Shared: true, Faults: Faults{Again: 1, Visibility: 1}})},
		{"one that takes a burial for an ack", HistoryWithoutPuts, "confirmed has no effect", atHosts(Config{Shared: true, Faults: Faults{Again: 1, Bury: 1}})},
		{"one that takes a removal for an ack", HistoryWithoutHere, "confirmed has no effect", atHosts(Config{Shared: true, Remove: Forced})},
		{"one that takes for an ack what was removed without its session", HistoryWithoutStood, "confirmed has no effect",
			atHosts(Config{Shared: true, Remove: Forced, Faults: Faults{DropHere: 1}})},
	}
}

// Without a guard the search finds the harm that it keeps off.
func TestEveryGuardIsNeeded(t *testing.T) {
	for _, c := range slices.Concat(defectCases(), bundleDefects()) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Items, c.cfg.Consumers = max(c.cfg.Items, 1), cmp.Or(c.cfg.Consumers, 2)
			if soaking() { // the defect ends a search early, its absence does not
				if right := search.Search(New(c.cfg), bound); right.Violation != "" || right.Cut {
					t.Fatalf("without the defect: %s", right)
				}
			}
			c.cfg.Defect = c.defect
			wrong := search.Search(New(c.cfg), bound)
			if !strings.Contains(wrong.Violation, c.harm) {
				t.Fatalf("want a violation with %q, got: %s", c.harm, wrong)
			}
			t.Logf("%d steps: %s", len(wrong.Trace), wrong.Violation)
		})
	}
}
